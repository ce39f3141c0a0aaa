"""The tables of the thresholds, and the picture of where memory runs out."""

import functools
from collections.abc import Sequence

import pandas as pd

from harness.plots.series import agreement, frontier
from harness.prediction.mlp.data_segment import solve_data_segment
from harness.schema.findings import Figure, Table
from harness.schema.threshold import Threshold

from .claims import PROMISED
from .hyperbola import Frontier, series

CURVE = sorted({round(2 ** (step / 4)) for step in range(25)})
"""Depths at which the predicted curves have their points."""


def tables(
    table: pd.DataFrame,
    pinned: pd.DataFrame,
    fits: dict[tuple[str, int], Frontier],
    policies: pd.DataFrame,
) -> list[Table]:
    """Return the thresholds, where the budget went, the hyperbolas, and the policies."""
    answer = [name for name in table.columns if not name.endswith("_bytes")]
    answer.insert(answer.index("depth") + 1, "budget_bytes")
    shares = ["live", "rounding", "small", "library", "unused"]
    keys = ["series", "depth", "budget_bytes"]
    made = [
        Table(
            name="thresholds",
            caption="The largest batch that fits: from live bytes only, predicted and reproduced",
            frame=table[answer].sort_values(["malloc", "series", "budget_bytes", "depth"]),
        ),
    ]
    if pinned["rounding_bytes"].notna().any():
        caption = "Parts of the budget at the largest batch that fits"
        frame = pinned[[*keys, *(f"{name}_bytes" for name in shares)]]
        made.append(Table(name="headroom", caption=caption, frame=frame))
    if fits:
        rows = [
            {
                "series": name,
                "budget_bytes": budget,
                "a": one.a,
                "b": one.b,
                "c": one.c,
                "worst_error_percent": 100 * one.worst,
            }
            for (name, budget), one in fits.items()
        ]
        caption = "The hyperbola (depth + a)(batch + b) = c through the reproduced thresholds"
        made.append(Table(name="frontier", caption=caption, frame=pd.DataFrame(rows)))
    if len(policies):
        caption = "The largest batch under each malloc policy, and the loss by the default policy"
        made.append(Table(name="policies", caption=caption, frame=policies))
    return made


def frontier_figure(thresholds: Sequence[Threshold], pinned: pd.DataFrame) -> Figure:
    """Return the predicted curves with the reproduced thresholds on them."""
    points = pinned[["series", "budget_bytes", "depth", "largest_fit"]].rename(
        columns={"largest_fit": "batch"}
    )
    on_gpu = any(one.workload.device == "cuda" for one in thresholds)
    rows = _here(thresholds) if on_gpu else _curve(thresholds, points)
    what = "predicted here" if on_gpu else "predicted"
    curves = pd.DataFrame(rows).dropna().assign(what=what)
    drawn = "Crosses" if on_gpu else "Lines"
    shape = "" if on_gpu else " Training's lines bend down as hyperbolas."
    if not on_gpu and "inference" in set(points["series"]):
        shape = " Training's lines bend down as hyperbolas. Inference's lines hardly fall."
    data = pd.concat([curves, points.assign(what="reproduced")], ignore_index=True)
    return Figure(
        name="frontier",
        caption=f"The largest batch that fits into a budget, against depth. {drawn} are "
        f"predicted. At each point one more example ran out of memory.{shape}",
        data=data.astype({"depth": "int64", "batch": "int64", "budget_bytes": "int64"}),
        draw=frontier,
        story=True,
        heading="Where memory runs out",
        size=(8.6, 4.0),
    )


def agreement_figure(pinned: pd.DataFrame) -> Figure | None:
    """Return each prediction against its threshold, and the difference."""
    known = pinned[pinned["error_percent"].notna()].reset_index(drop=True)
    if known.empty:
        return None
    data = known[["series", "budget_bytes", "depth", "predicted"]].assign(
        reproduced=known["largest_fit"], error=known["error_percent"].astype("float64")
    )
    return Figure(
        name="agreement",
        caption=f"Predicted against reproduced batch at {len(data)} thresholds (dashed: "
        f"equal), and their difference in percent (dashed: the claim's limit of ±{PROMISED}%).",
        data=data,
        draw=functools.partial(agreement, limit=PROMISED),
        size=(8.6, 3.8),
    )


def _here(thresholds: Sequence[Threshold]) -> list[dict[str, object]]:
    """Return the predictions at the depths seen: on a GPU a point more costs seconds."""
    return [
        {
            "series": series(one),
            "budget_bytes": one.budget_bytes,
            "depth": one.workload.depth,
            "batch": one.predicted,
        }
        for one in thresholds
    ]


def _curve(thresholds: Sequence[Threshold], points: pd.DataFrame) -> list[dict[str, object]]:
    """Return the predicted curves."""
    bases = {series(one): one.workload for one in thresholds}
    return [
        {
            "series": name,
            "budget_bytes": budget,
            "depth": depth,
            "batch": solve_data_segment(bases[str(name)].replace(depth=depth), budget, "batch"),
        }
        for (name, _), part in points.groupby(["series", "budget_bytes"], sort=False)
        for budget in [int(part["budget_bytes"].iloc[0])]
        for depth in CURVE
        if part["depth"].min() <= depth <= part["depth"].max()
    ]

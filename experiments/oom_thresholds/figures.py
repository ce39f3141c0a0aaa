"""Makes the figures and the tables of predicted and measured thresholds."""

from collections.abc import Sequence

import pandas as pd

from harness.plots.series import frontier
from harness.prediction.mlp.data_segment import solve_data_segment
from harness.reporting.claim_figures import picture
from harness.schema.findings import Figure, Table
from harness.schema.threshold import Threshold

from .claims import PROMISED, Fits
from .hyperbola import series

CURVE = sorted({round(2 ** (step / 4)) for step in range(25)})
"""Depths at which the predicted curves are computed."""


def tables(pinned: pd.DataFrame, fits: Fits) -> list[Table]:
    """Return the tables of the thresholds and of the fitted hyperbolas."""
    answer = [name for name in pinned.columns if not name.endswith("_bytes")]
    answer.insert(answer.index("depth") + 1, "budget_bytes")
    ordered = pinned.sort_values(["series", "budget_bytes", "depth"])
    caption = "Largest batch that fits: by live bytes only, as predicted, and as reproduced"
    made = [Table(name="thresholds", caption=caption, frame=ordered[answer])]
    if fits:
        rows = [(*key, one.a, one.b, one.c, 100 * one.worst) for key, one in fits.items()]
        head = ["series", "budget_bytes", "a", "b", "c", "worst_error_percent"]
        caption = "Fit of the hyperbola (depth + a)(batch + b) = c to the reproduced thresholds"
        frame = pd.DataFrame(rows, columns=head)
        made.append(Table(name="frontier", caption=caption, frame=frame))
    return made


def frontier_figure(thresholds: Sequence[Threshold], pinned: pd.DataFrame) -> Figure:
    """Draw the predicted curves and the measured thresholds."""
    points = pinned[["series", "budget_bytes", "depth", "largest_fit"]].rename(
        columns={"largest_fit": "batch"}
    )
    on_gpu = any(one.workload.device == "cuda" for one in thresholds)
    rows = _here(thresholds) if on_gpu else _curve(thresholds, points)
    head = ["series", "budget_bytes", "depth", "batch"]
    curves = (
        pd.DataFrame(rows, columns=head)
        .dropna()
        .assign(what="predicted here" if on_gpu else "predicted")
    )
    drawn = "Crosses" if on_gpu else "Lines"
    data = pd.concat([curves, points.assign(what="reproduced")], ignore_index=True)
    return Figure(
        name="frontier",
        caption=f"Largest batch that fits into a budget, against the depth. {drawn} are predicted "
        f"batches, and the {len(points)} points are reproduced batches. With one more example "
        "each of these steps ran out of memory.",
        data=data.astype({"depth": "int64", "batch": "int64", "budget_bytes": "int64"}),
        draw=frontier,
        heading="Where memory runs out",
        size=(8.6, 4.2),
    )


def agreement_figure(pinned: pd.DataFrame) -> Figure | None:
    """Draw the difference between each threshold and its prediction."""
    known = pinned[pinned["error_percent"].notna()].reset_index(drop=True)
    data = known[["series", "budget_bytes", "depth", "predicted"]].assign(
        reproduced=known["largest_fit"], error=known["error_percent"].astype("float64")
    )
    on_gpu = bool(pinned["kind"].isin(["allocator", "card"]).any())
    what = " Both numbers come from this project: the dry run agrees with its own model." * on_gpu
    facts = {"total": len(data), "limit": PROMISED, "what": what}
    return picture(__file__, "agreement", data, **facts)


def _here(thresholds: Sequence[Threshold]) -> list[tuple[object, ...]]:
    """Return predictions at measured depths only, as each prediction for a GPU takes seconds."""
    return [
        (series(one), one.budget_bytes, one.workload.depth, one.predicted) for one in thresholds
    ]


def _curve(thresholds: Sequence[Threshold], points: pd.DataFrame) -> list[tuple[object, ...]]:
    """For each series and budget, return predicted thresholds at the depths of CURVE."""
    bases = {series(one): one.workload for one in thresholds}
    return [
        (name, budget, depth, solve_data_segment(base.replace(depth=depth), budget, "batch"))
        for (name, _), part in points.groupby(["series", "budget_bytes"], sort=False)
        for base, budget in [(bases[str(name)], int(part["budget_bytes"].iloc[0]))]
        for depth in CURVE
        if part["depth"].min() <= depth <= part["depth"].max()
    ]

"""At which batch does a network stop fitting into a budget: predicted, then reproduced.

The note says that deeper networks with larger batches run out of memory more easily. Here
they do run out: each threshold is the largest batch of which two whole training steps (one
forward pass in inference) completed within a budget that the kernel enforces, with the next
larger batch seen to fail. On a GPU the caching allocator enforces it.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.answers import frontier_answer
from harness.prediction.mlp.data_segment import solve_data_segment
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Section, Table
from harness.schema.plots.frontier import frontier
from harness.schema.threshold import Threshold, ThresholdQuestion
from harness.schema.workload import Workload

from . import claims as verdicts
from .hyperbola import Frontier, as_frame, read_thresholds, series

MIB = 2**20
WIDTH = 64
"""Narrow layers: the same bytes cost a quarter of the arithmetic of width 256."""
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
CURVE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SGD = Workload(width=WIDTH)
ADAM = Workload(width=WIDTH, optimizer="adam")
INFERENCE = Workload(width=WIDTH, mode="inference")


def questions(size: Size, device: str = "cpu") -> list[ThresholdQuestion]:
    """Return the thresholds of a size, those of the pinned policy first.

    On a GPU budgets are eight times as large, since cuBLAS's workspaces alone take 64 MiB of
    some; no question there is of the C library's policy.
    """
    if device == "cpu":
        return _on_cpu(size)
    return [
        ThresholdQuestion(
            workload=one.workload.replace(device=device), budget_bytes=_GPU_TIMES * one.budget_bytes
        )
        for one in _on_cpu(size)
        if one.workload.malloc == "pinned"
    ]


_GPU_TIMES = 8


def _on_cpu(size: Size) -> list[ThresholdQuestion]:
    if size is Size.QUICK:
        return _over([SGD], (1, 4, 16), (32,))
    if size is Size.DEFAULT:
        return [
            *_over([SGD], DEPTHS, (64,)),
            *_over([SGD], (1, 8, 64), (128,)),
            *_over([ADAM, INFERENCE], (1, 8, 64), (64,)),
            *_over([SGD.replace(malloc="system")], (1, 8, 64), (64,)),
        ]
    return [
        *_over([SGD, ADAM, INFERENCE], DEPTHS, (64, 128, 256, 512)),
        *_over([SGD.replace(malloc="system")], DEPTHS, (64, 256)),
        *_over([one.replace(malloc="system") for one in (ADAM, INFERENCE)], (1, 8, 64), (64, 256)),
    ]


def _over(
    bases: Iterable[Workload], depths: Sequence[int], mebibytes: Sequence[int]
) -> list[ThresholdQuestion]:
    return [
        ThresholdQuestion(
            workload=base.replace(depth=depth),
            budget_bytes=size * MIB,
            # The system's policy moves the answer from one probe to the next anyway.
            confirmations=3 if base.malloc == "pinned" else 1,
        )
        for base in bases
        for size in mebibytes
        for depth in depths
    ]


def analyse(evidence: Evidence) -> Section:
    """Fit the frontier, compare with both predictions, and rule; see the module's docstring."""
    thresholds = read_thresholds(evidence.folder)
    table = as_frame(thresholds)
    pinned = table[(table["malloc"] == "pinned") & (table["outcome"] == "ok")]
    pinned = pinned[pinned["largest_fit"].notna()].reset_index(drop=True)
    if pinned.empty:
        raise AnalysisError("no threshold of the pinned policy was found")
    fits = verdicts.frontiers(pinned)
    policies = verdicts.policies(table)
    return Section(
        answer=frontier_answer(
            pinned["error_percent"], max((one.worst for one in fits.values()), default=None)
        ),
        claims=(verdicts.deeper(pinned, fits), *verdicts.predictable(pinned)),
        text=(*verdicts.texts(table, pinned, fits, policies),),
        tables=(*_tables(table, pinned, fits, policies),),
        figures=(_frontier_figure(thresholds, pinned),),
    )


def _tables(
    table: pd.DataFrame,
    pinned: pd.DataFrame,
    fits: dict[tuple[str, int], Frontier],
    policies: pd.DataFrame,
) -> list[Table]:
    answer = [name for name in table.columns if not name.endswith("_bytes")]
    answer.insert(answer.index("depth") + 1, "budget_bytes")
    shares = ["live", "rounding", "small", "library", "unused"]
    keys = ["series", "depth", "budget_bytes"]
    made = [
        Table(
            name="thresholds",
            caption="The largest batch that fits: by live bytes alone, predicted, reproduced",
            frame=table[answer].sort_values(["malloc", "series", "budget_bytes", "depth"]),
        ),
    ]
    if pinned["rounding_bytes"].notna().any():
        caption = "Where the budget went at the largest batch that fits (the parts add up to it)"
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
                "left_out_error_percent": None if one.left_out is None else 100 * one.left_out,
            }
            for (name, budget), one in fits.items()
        ]
        caption = "The hyperbola (depth + a)(batch + b) = c through the reproduced thresholds"
        made.append(Table(name="frontier", caption=caption, frame=pd.DataFrame(rows)))
    if len(policies):
        caption = "The largest batch under each malloc policy, and what the default policy loses"
        made.append(Table(name="policies", caption=caption, frame=policies))
    return made


def _frontier_figure(thresholds: Sequence[Threshold], pinned: pd.DataFrame) -> Figure:
    points = pinned[["series", "budget_bytes", "depth", "largest_fit"]].rename(
        columns={"largest_fit": "batch"}
    )
    rows = _curve(thresholds, points)
    curves = pd.DataFrame(rows).dropna().assign(what="predicted")
    data = pd.concat([curves, points.assign(what="reproduced")], ignore_index=True)
    return Figure(
        name="frontier",
        caption="The largest batch that fits into a budget, against depth. Lines are predicted, "
        "points are reproduced: one example more ran out of memory. Training's lines bend down "
        "as hyperbolas; those of inference hardly fall.",
        data=data.astype({"depth": "int64", "batch": "int64", "budget_bytes": "int64"}),
        draw=frontier,
        story=True,
        heading="Where memory runs out",
        size=(8.6, 4.0),
    )


def _curve(thresholds: Sequence[Threshold], points: pd.DataFrame) -> list[dict[str, object]]:
    """Return the predicted curves: on a GPU, where a point costs seconds, at the depths seen."""
    if any(one.workload.device == "cuda" for one in thresholds):
        return [
            {
                "series": series(one),
                "budget_bytes": one.budget_bytes,
                "depth": one.workload.depth,
                "batch": one.predicted,
            }
            for one in thresholds
        ]
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


EXPERIMENT = Experiment(
    order=15,
    title="Where memory runs out",
    question="At which batch does a network stop fitting into a budget, and how does that depend "
    "on its depth?",
    analyse=analyse,
    thresholds=questions,
)

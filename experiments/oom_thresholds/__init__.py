"""At which batch does a network stop fitting into a budget: predicted, then reproduced.

The note says that deeper networks with larger batches run out of memory more easily. Here
they do run out: each threshold is the largest batch of which two whole training steps (one
forward pass in inference) completed within a budget that the kernel enforces, with the next
larger batch seen to fail. On a GPU the caching allocator enforces it.
"""

from collections.abc import Iterable, Sequence

from harness.analysis import AnalysisError
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, present
from harness.schema.threshold import ThresholdQuestion
from harness.schema.workload import Workload

from . import claims as verdicts
from . import figures
from .hyperbola import as_frame

MIB = 2**20
WIDTH = 64
"""Narrow layers: the same bytes cost a quarter of the arithmetic of width 256."""
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
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
            *_over([SGD], DEPTHS, (32,)),
            *_over([SGD], (8, 64), (64,)),
            *_over([ADAM, INFERENCE], (1, 64), (32,)),
            *_over([SGD.replace(malloc="system")], (8, 64), (64,)),
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
    thresholds = evidence.thresholds
    table = as_frame(thresholds)
    pinned = table[table["malloc"] == "pinned"].reset_index(drop=True)
    found = pinned[pinned["largest_fit"].notna()].reset_index(drop=True)
    if found.empty:
        raise AnalysisError("no threshold of the pinned policy was found")
    fits = verdicts.frontiers(pinned)
    policies = verdicts.policies(table)
    predicted = verdicts.predictable(pinned)
    return Section(
        answer=verdicts.answer(predicted),
        claims=present(verdicts.deeper(pinned, fits), predicted),
        text=tuple(verdicts.texts(table, found, fits, policies)),
        tables=tuple(figures.tables(table, found, fits, policies)),
        figures=present(
            figures.frontier_figure(thresholds, found), figures.agreement_figure(found)
        ),
    )


EXPERIMENT = Experiment(
    order=15,
    title="Where memory runs out",
    question="At which batch does a network stop fitting into a budget, and how does that depend "
    "on its depth?",
    analyse=analyse,
    thresholds=questions,
)

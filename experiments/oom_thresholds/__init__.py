"""Predicts and measures the largest batch at which a network fits into a memory budget.

The course note says that deeper networks with larger batches run out of memory more easily. A
threshold is the largest batch with which two training steps (in inference, one forward pass) fit
into a budget. The Linux kernel enforces the budget on the CPU, and the caching allocator enforces
the budget on a GPU.
"""

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
"""Width of the networks. For the same memory, this width needs a quarter of the computation of
width 256."""
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
SGD = Workload(width=WIDTH)
ADAM = Workload(width=WIDTH, optimizer="adam")
INFERENCE = Workload(width=WIDTH, mode="inference")


def questions(size: Size, device: str = "cpu") -> list[ThresholdQuestion]:
    """Return the thresholds to measure at a size of the experiment.

    On a GPU, budgets are eight times as large, because cuBLAS workspaces may need 64 MiB.
    """
    asked: list[tuple[list[Workload], tuple[int, ...], tuple[int, ...]]]
    if size is Size.QUICK:
        asked = [([SGD], (1, 4, 16), (32,))]
    elif size is Size.DEFAULT:
        asked = [
            ([SGD], DEPTHS, (32,)),
            ([SGD], (8, 64), (64,)),
            ([ADAM, INFERENCE], (1, 64), (32,)),
        ]
    else:
        asked = [([SGD, ADAM, INFERENCE], DEPTHS, (64, 128, 256, 512))]
    return [
        ThresholdQuestion(
            workload=base.replace(depth=depth, device=device),
            budget_bytes=mebibytes * MIB * (1 if device == "cpu" else _GPU_TIMES),
        )
        for bases, depths, budgets in asked
        for base in bases
        for mebibytes in budgets
        for depth in depths
    ]


_GPU_TIMES = 8


def analyse(evidence: Evidence) -> Section:
    """Fit a hyperbola to each series of thresholds, and judge the claims."""
    thresholds = evidence.thresholds
    pinned = as_frame([one for one in thresholds if one.workload.malloc == "pinned"])
    found = pinned[pinned["largest_fit"].notna()].reset_index(drop=True)
    if found.empty:
        raise AnalysisError("no threshold of the pinned policy was found")
    fits = verdicts.frontiers(pinned)
    predicted = verdicts.predictable(pinned)
    return Section(
        summary=verdicts.summary(predicted),
        claims=present(verdicts.deeper(pinned, fits), predicted),
        text=tuple(verdicts.texts(pinned, found, fits)),
        tables=tuple(figures.tables(found, fits)),
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

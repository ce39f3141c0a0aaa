"""Repeats the note's training: Fashion-MNIST, 784 -> 256 -> 10, batch 256, learning rate 0.1.

The experiment tests whether every step needs the same memory. Each of the note's two networks is
trained in separate processes. One run reads the process's RSS around every step, and another run
traces every allocation. The last batch of an epoch is smaller (60,000 = 234 * 256 + 96), and each
epoch ends with an evaluation. The note's trainer calls ``zero_grad`` after the forward pass. A
third run traces the usual order, with ``zero_grad`` before the forward pass.
"""

from collections.abc import Iterable

from harness.analysis.claim_data import text
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, present
from harness.schema.training_run import (
    Instrument,
    TrainingJob,
    TrainingPlan,
    ZeroGrad,
)
from harness.schema.workload import Workload

from . import claims, explanations, figures, runs
from .step_peaks import orders_table

MODELS = ("mlp", "mlp-scratch")
KINDS: tuple[tuple[Instrument, ZeroGrad], ...] = (
    ("resident", "after_forward"),
    ("trace", "after_forward"),
    ("trace", "before_forward"),
)
"""Pairs (instrument, position of ``zero_grad``): the position is after the forward pass, as in the
course note, or before it."""
EPOCHS = {Size.QUICK: (2, 2, 2), Size.DEFAULT: (10, 1, 1), Size.FULL: (20, 10, 2)}
"""Number of epochs for each pair of KINDS: few epochs for exact metrics, and many for RSS."""
ALL_IMAGES = (60_000, 10_000)
FEW_IMAGES = (5 * 256 + 96, 2 * 256 + 16)
"""Numbers of training and validation images; the last batch of both sets is smaller."""


def cells(size: Size) -> Iterable[Workload]:  # noqa: ARG001  # the same at every size
    """Return one step of each network."""
    return [Workload(model=model) for model in MODELS]


def training_runs(size: Size) -> Iterable[TrainingJob]:
    """Yield the runs of each network; the quick size uses synthetic images."""
    quick = size is Size.QUICK
    examples, validation = FEW_IMAGES if quick else ALL_IMAGES
    for model in MODELS:
        workload = Workload(model=model, data="synthetic" if quick else "fashion-mnist")
        for (instrument, zero_grad), epochs in zip(KINDS, EPOCHS[size], strict=True):
            plan = TrainingPlan(
                instrument=instrument,
                zero_grad=zero_grad,
                epochs=epochs,
                examples=examples,
                validation=validation,
            )
            yield TrainingJob(workload=workload, plan=plan)


def analyse(evidence: Evidence) -> Section:
    """Judge the claims on equal memory in all steps, on growth, and on ``zero_grad``'s order."""
    lines = evidence.training_runs
    result = runs.runs(lines)
    main = runs.in_main_order(result)
    traced = [run for run in main if run.instrument == "trace"]
    resident = [run for run in main if run.instrument == "resident"]
    orders = orders_table(result)
    asked = {one.workload.model for one in lines}
    lost = [len(asked) - len({run.model for run in own}) for own in (traced, resident)]
    return Section(
        claims=present(
            claims.equal_steps(traced, lost[0]),
            claims.order(orders, len(asked) - orders["model"].nunique()),
            claims.growth(resident, lost[1]),
        ),
        text=(*explanations.images_text(lines, main), text(__file__, "order")),
        tables=figures.tables(main, traced, orders),
        figures=present(figures.peaks_figure(traced)),
    )


EXPERIMENT = Experiment(
    title="A whole training run",
    question="Is the memory of the note's network the same from the first step to the last?",
    cells=cells,
    training_runs=training_runs,
    analyse=analyse,
    repeats=1,
    order=110,
)

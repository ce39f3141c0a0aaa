"""Measures memory and time at widths near powers of two.

The course note advises widths "divisible by larger powers of 2", as "computationally efficient due
to the way memory is allocated and addressed in hardware". Bytes at powers of two are compared with
bytes at neighbouring widths. Times at odd widths are compared with times at multiples of 8, within
blocks. A block measures every width once, each in a separate process. A block has its own seed,
which changes only the weights.
"""

from collections.abc import Iterable

from harness.analysis import AnalysisError, predictions
from harness.analysis.claim_judge import judged
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, present
from harness.schema.workload import Workload

from . import pairs, sizes, times
from .sizes import ACTIVATIONS, DEPTH, PARAMETERS

TIMED_BATCH = 64


PLAN: dict[Size, tuple[tuple[int, ...], int]] = {
    Size.QUICK: ((64,), 3),
    Size.DEFAULT: ((64, 256), 8),
    Size.FULL: ((64, 128, 256, 512), 20),
}
"""Powers of two and number of blocks, for each size of the experiment."""
OFFSETS = (-8, -1, 0, 1, 8)
"""Numbers that are added to a power of two to get the timed widths."""


METRICS = {"saved_bytes": "the saved bytes", "peak_live_bytes": "the peak"}


def cells(size: Size) -> Iterable[Workload]:
    """Yield widths near powers of two: first to compare bytes, then blocks to compare times.

    In every second block, the order is reversed, so that a machine that slows down favours no
    width.
    """
    powers, blocks = PLAN[size]
    near = sorted({power + at for power in powers for at in (0, -1, 1)} | {powers[0] // 2})
    for batch in (16, 256):
        for width in near:
            yield Workload(depth=DEPTH, width=width, batch=batch)
    order = [power + at for power in powers for at in OFFSETS]
    for block in range(1, blocks + 1):
        for width in order if block % 2 else reversed(order):
            yield Workload(depth=DEPTH, width=width, batch=TIMED_BATCH, malloc="system", seed=block)


def analyse(evidence: Evidence) -> Section:
    """Compare the bytes at neighbouring widths, and the times at the widths of the same block."""
    frame = predictions.with_predictions(evidence.frame, list(METRICS))
    frame = frame[frame[["width", PARAMETERS, ACTIVATIONS, "peak_live_bytes"]].notna().all(axis=1)]
    pinned = frame[frame["malloc"] == "pinned"].reset_index(drop=True)
    if pinned.empty:
        raise AnalysisError("no width was measured")
    ratios = pairs.odd_ratios(times.times(frame))
    less = judged(
        __file__,
        "less",
        sizes.beside_neighbours(pinned),
        derived=predictions.equal_cells(pinned, "peak_live_bytes"),
    )
    return Section(
        claims=present(less, times.time_verdict(ratios)),
        text=(predictions.in_words(frame, METRICS), *times.time_text(ratios)),
        tables=present(
            times.ratio_table(ratios),
            sizes.size_table(pinned),
            *predictions.miss_tables(frame, list(METRICS)),
        ),
        figures=present(times.time_figure(ratios)),
    )


EXPERIMENT = Experiment(
    order=60,
    title="Width, and powers of two",
    question="How do memory and time depend on the width, and are powers of two special?",
    cells=cells,
    analyse=analyse,
    repeats=20,
)

"""Measures the memory of a training step for various numbers of checkpointed segments.

A step with ``k`` checkpointed segments keeps only the input of each segment. The backward pass runs
the forward pass of a segment again to recompute the activations of the segment. At the peak, about
``k`` inputs of segments and the activations of ``depth / k`` layers are alive. Chen and co-authors
(2016, "Training deep nets with sublinear memory cost") conclude that the best ``k`` is about the
square root of the depth. With three networks, the experiment tests whether √depth segments need the
least memory. One of the three networks has activations that are far larger than the parameters. Two
of the three networks have the course note's width, at which gradients are not negligible.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import predictions
from harness.analysis.claim_data import text
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.workload import Workload

from . import claims, figures, law

COPIES = 8
"""Number of measurement blocks per network; each block begins with an uncheckpointed step."""
NARROW = Workload(in_features=64, width=64, batch=1024)
"""Network in which a layer has 256 KiB of activations and 16.25 KiB of parameters."""


WIDE = Workload(width=256, batch=512)
"""Network in which a layer has 512 KiB of activations and 257 KiB of parameters."""


NOTE = Workload(width=256, batch=256)
"""The note's network, in which a layer has 256 KiB of activations and 257 KiB of parameters."""


def cells(size: Size) -> Iterable[Workload]:
    """Yield each network's steps without checkpoints and with various numbers of segments."""
    if size is Size.QUICK:
        yield from _curve(NARROW.replace(depth=9, batch=512), every=False)
        return
    every = size is Size.FULL
    narrow = NARROW if every else NARROW.replace(batch=512)
    for depth in (16, 36, 64) if every else (16, 36):
        yield from _curve(narrow.replace(depth=depth), every=every)
    yield from _curve(WIDE.replace(depth=36 if every else 16), every=every)
    yield from _curve(NOTE.replace(depth=16), every=every)


def _curve(base: Workload, *, every: bool) -> Iterable[Workload]:
    """Yield the steps of each measurement block, which begins with an uncheckpointed step.

    The uncheckpointed steps differ only in the seed, and each runs in its own process.
    """
    counts = list(range(1, base.depth + 1)) if every else _spread(base.depth)
    for seed, own in enumerate(law.blocks(counts, min(COPIES, len(counts)))):
        yield base.replace(seed=seed)
        yield from (base.replace(checkpoint=segments) for segments in own)


def _spread(depth: int) -> list[int]:
    """Return all divisors of ``depth``, and the numbers around the square root of ``depth``."""
    root = round(depth**0.5)
    divisors = {number for number in range(1, depth + 1) if depth % number == 0}
    return sorted(divisors | {root - 1, root + 1, root + 2})


def analyse(evidence: Evidence) -> Section:
    """Fit a formula to each network's memory, and compare the fitted with the measured optimum."""
    frame = predictions.with_predictions(evidence.frame, ["peak_live_bytes"])
    result = law.curves(evidence.frame)
    missing = evidence.frame.groupby(law.KEYS).ngroups - len(result)
    timed = [curve for curve in result if curve.seconds]
    gradients = any(curve.regime != "activations" for curve in result)
    names = ["law", *["gradients"] * gradients, *["untimed"] * (not timed)]
    return Section(
        claims=present(
            *claims.memory(result, missing, predictions.equal_cells(frame, "peak_live_bytes")),
            claims.time(timed, missing),
        ),
        text=tuple(text(__file__, name) for name in names),
        tables=(
            Table(
                name="laws",
                caption="The law a·segments + b·longest segment + c, fitted to each curve, and the "
                "best number of segments by the law, by the square root and by measurement",
                frame=law.laws(result),
            ),
            Table(
                name="segments",
                caption="Every cell, compared with the step without checkpoints",
                frame=pd.concat([curve.table for curve in result], ignore_index=True),
            ),
        ),
        figures=present(figures.peaks(result), figures.times(timed)),
    )


EXPERIMENT = Experiment(
    order=70,
    title="Checkpointed segments",
    question="How does memory depend on the number of checkpointed segments, and what does it "
    "cost in time?",
    cells=cells,
    analyse=analyse,
    repeats=3,
)

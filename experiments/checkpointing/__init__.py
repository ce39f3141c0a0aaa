"""Checkpointed segments: memory against their number, and the square-root law.

A checkpointed step keeps the input of each of ``k`` segments and runs one segment at a time
again when backward needs it: about ``k`` tensors, and those of ``depth / k`` layers. Chen et
al. (2016, "Training deep nets with sublinear memory cost") conclude that about the square root
of the depth is best. Three networks test it: one whose activations dwarf its parameters, and
two of the note's width, where gradients count.
"""

from collections.abc import Iterable

import pandas as pd

from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.workload import Workload

from . import claims, explanations, figures, law

NARROW = Workload(in_features=64, width=64, batch=1024)
"""256 KiB an activation, 16.25 KiB a layer's parameters."""


WIDE = Workload(width=256, batch=512)
"""512 KiB an activation, 257 KiB a layer's parameters."""


NOTE = Workload(width=256, batch=256)
"""The note's: 256 KiB an activation, 257 KiB a layer's parameters."""


def cells(size: Size) -> Iterable[Workload]:
    """Return each network without checkpoints (three processes) and with 1 to depth segments."""
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
    """Yield the segments, an uncheckpointed step before, among and after them.

    Its copies differ in their seed alone: each is measured in a process of its own.
    """
    depth = base.depth
    counts = list(range(1, depth + 1)) if every else _spread(depth)
    third = max(len(counts) // 3, 1)
    for number, segments in enumerate(counts):
        if number % third == 0 and number // third < 3:
            yield base.replace(seed=number // third)
        yield base.replace(checkpoint=segments)


def _spread(depth: int) -> list[int]:
    """Return every divisor of ``depth``, and the numbers around its square root."""
    root = round(depth**0.5)
    divisors = {number for number in range(1, depth + 1) if depth % number == 0}
    return sorted(divisors | {root - 1, root + 1, root + 2})


def analyse(evidence: Evidence) -> Section:
    """Fit the law to each curve and set its optimum next to the measured one."""
    result = law.curves(evidence.frame)
    timed = [curve for curve in result if curve.is_timed]
    return Section(
        claims=present(*claims.root_law(result), claims.cheaper(result), claims.time(timed)),
        text=(
            *explanations.fit_text(result),
            *explanations.gradient_text(result),
            explanations.time_text(timed),
        ),
        tables=(
            Table(
                name="laws",
                caption="The law a·segments + b·longest segment + c fitted to each curve; best "
                "number of segments by the law, by the square root and by measurement",
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

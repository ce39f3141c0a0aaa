"""Narrower numbers: what float64, float32, bfloat16 and autocast take for the same network.

A type decides the size of everything it is used for. Autocast is another thing: parameters,
gradients and the batch stay float32, matmuls run in bfloat16, and the copies that this takes
are kept for the backward pass.
"""

from collections.abc import Iterable

import pandas as pd

from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.workload import Grid, Workload

from . import claims, copies, figures
from . import ratios as precision_effect

BASES = (
    Workload(dtype="float64"),
    Workload(dtype="float32"),
    Workload(dtype="bfloat16"),
    Workload(autocast="bfloat16"),
)


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid: every precision over depth and batch."""
    depths, batches = {
        Size.QUICK: ((2,), (16, 256)),
        Size.DEFAULT: ((2, 8), (16, 64, 256, 1024)),
        Size.FULL: ((2, 8, 32), (16, 64, 256, 1024, 4096)),
    }[size]
    for base in BASES:
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})


def traced(size: Size) -> Iterable[Workload]:
    """Return the autocast cell whose copies are listed one by one."""
    depth, batch = (2, 256) if size is Size.QUICK else (8, 256)
    return (Workload(autocast="bfloat16", depth=depth, batch=batch),)


def analyse(evidence: Evidence) -> Section:
    """Compare each precision with float32, cell by cell, to the byte."""
    table = precision_effect.beside_float32(evidence.frame)
    wanted = precision_effect.labels(evidence.frame).value_counts()
    found = table["precision"].value_counts()
    missing = {str(name): int(n - found.get(name, 0)) for name, n in wanted.items()}
    held = copies.held_copies(evidence)
    return Section(
        claims=present(
            claims.halves(table, missing),
            claims.doubles(table, missing),
            claims.autocast(table, missing),
        ),
        text=(*_exact_text(table), *copies.copies_text(held)),
        tables=(
            Table(
                name="precisions",
                caption="Every cell, with its metrics as multiples of float32's",
                frame=table,
            ),
            *(
                Table(
                    name="copies",
                    caption=f"The copies that autocast holds in the forward pass ({name})",
                    frame=frame,
                )
                for name, frame in held.items()
            ),
        ),
        figures=present(
            figures.composition(evidence.frame),
            figures.ratio_figure(table),
            *figures.autocast_timeline(evidence),
        ),
    )


def _exact_text(table: pd.DataFrame) -> list[str]:
    own = claims.of(table, "autocast bfloat16")
    if own.empty:
        return []
    equal = int((own["saved_by_formula_bytes"] == own["saved_bytes"]).sum())
    breaks = [
        f"{precision_effect.break_even_batch(Workload(depth=int(depth)))} at depth {depth}"
        for depth in sorted(own["depth"].unique())
    ]
    text = (
        "Under autocast the bytes saved for backward should be B·(8 + 2·features + 2·Σ hidden + "
        "4·classes) + 2·Σ weights after the first layer + 4. The first term has the labels, the "
        "bfloat16 copies of the batch and of every hidden activation, and the log-probabilities, "
        "which stay float32. The second term has the bfloat16 copies of the weights, which do not "
        f"depend on the batch. {equal} of {len(own)} cells equal this sum to the byte. So autocast "
        f"keeps fewer bytes than float32 only from a batch of {', of '.join(breaks)} on."
    )
    return [text]


EXPERIMENT = Experiment(
    order=50,
    title="Narrower numbers",
    question="How do float64, bfloat16 and autocast change memory, and what does autocast add?",
    cells=cells,
    analyse=analyse,
    repeats=3,
    traced=traced,
)

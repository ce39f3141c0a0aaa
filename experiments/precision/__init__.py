"""Measures the memory of a network in float32, in bfloat16 and under autocast.

A tensor of a narrower dtype needs fewer bytes. Under autocast, parameters, gradients and the batch
stay in float32. Autocast runs matmuls in bfloat16, and autograd keeps bfloat16 copies of the
matmuls' inputs.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import predictions
from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.workload import Grid, Workload

from . import figures, ratios

BASES = (
    Workload(dtype="float32"),
    Workload(dtype="bfloat16"),
    Workload(autocast="bfloat16"),
)


def cells(size: Size) -> Iterable[Workload]:
    """Yield every precision at each depth and batch."""
    depths, batches = {
        Size.QUICK: ((2,), (16, 256)),
        Size.DEFAULT: ((2, 8), (16, 64, 256, 1024)),
        Size.FULL: ((2, 8, 32), (16, 64, 256, 1024, 4096)),
    }[size]
    for base in BASES:
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})


def analyse(evidence: Evidence) -> Section:
    """Compare each precision with float32, for the same network and batch."""
    table = ratios.beside_float32(evidence.frame)
    wanted = ratios.labels(evidence.frame).value_counts()
    found = table["precision"].value_counts()
    lost = {str(name): int(count - found.get(name, 0)) for name, count in wanted.items()}
    cast = table[table["precision"] == ratios.AUTOCAST]
    equal = int((cast["saved_by_formula_bytes"] == cast["saved_bytes"]).sum())
    peaks = predictions.with_predictions(
        evidence.frame[evidence.frame["autocast"].isna()], ["peak_live_bytes"]
    )
    return Section(
        claims=(
            judged(
                __file__,
                "halves",
                table,
                missing=lost.get("bfloat16", 0),
                derived=predictions.equal_cells(peaks, "peak_live_bytes"),
            ),
            judged(
                __file__,
                "autocast",
                table,
                missing=lost.get(ratios.AUTOCAST, 0),
                derived=(equal, len(cast)),
            ),
        ),
        text=tuple(_exact_text(cast, equal)),
        tables=(
            Table(
                name="precisions",
                caption="Every cell, with its metrics divided by those of the float32 cell",
                frame=table,
            ),
        ),
        figures=present(
            figures.composition(evidence.frame),
            figures.ratio_figure(table),
        ),
    )


def _exact_text(cast: pd.DataFrame, equal: int) -> list[str]:
    if cast.empty:
        return []
    breaks = ", ".join(
        f"{ratios.break_even_batch(Workload(depth=int(depth)))} at depth {depth}"
        for depth in sorted(cast["depth"].unique())
    )
    return [text(__file__, "exact", equal=equal, total=len(cast), breaks=breaks)]


EXPERIMENT = Experiment(
    order=50,
    title="Narrower numbers",
    question="How do bfloat16 and autocast change memory, and what does autocast add?",
    cells=cells,
    analyse=analyse,
    repeats=3,
)

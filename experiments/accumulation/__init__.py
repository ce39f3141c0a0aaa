"""Measures the memory of training steps that split their batch into micro-batches.

A step runs the forward and the backward pass of one micro-batch after the other, and then updates
the parameters once with the summed gradients. Only the activations of one micro-batch are alive at
a time. Splitting a batch does not change the sizes of parameters, gradients and the whole batch.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import predictions
from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.analysis.claim_numbers import ColumnNumbers
from harness.reporting.claim_figures import picture
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

from . import splits


def cells(size: Size) -> Iterable[Workload]:
    """Yield steps with one and with several micro-batches, for each depth."""
    depths, batch, parts = {
        Size.QUICK: ((2,), 64, (1, 2, 4, 8)),
        Size.DEFAULT: ((2, 8), 512, (1, 2, 4, 8, 16, 32, 64)),
        Size.FULL: ((2, 8, 32), 2048, (1, 2, 4, 8, 16, 32, 64, 128)),
    }[size]
    for depth in depths:
        yield from Grid(base=Workload(depth=depth, batch=batch), axes={"accumulate": parts})


def analyse(evidence: Evidence) -> Section:
    """Compare the memory of steps with one micro-batch and with several micro-batches."""
    table = splits.beside_whole(evidence.frame)
    frame = predictions.with_predictions(evidence.frame, ["peak_live_bytes"])
    asked, split = evidence.frame["accumulate"] > 1, table["parts"] > 1
    missing = int(asked.sum() - split.sum())
    exact = int((table["saved_activation_bytes"] == table["saved_by_formula_bytes"])[split].sum())
    last = table[table["parts"] == table["parts"].max()]
    facts = {
        "most": last["parts"].iloc[0],
        "shares": f"{ColumnNumbers(last['peak_over_whole']).ends:.3g} times",
        "above": format_bytes(int((last["peak_live_bytes"] - last["floor_bytes"]).max())),
    }
    peaks = predictions.equal_cells(frame, "peak_live_bytes")
    return Section(
        claims=(
            judged(
                __file__,
                "activations",
                table,
                missing=missing,
                derived=(exact, int(split.sum())),
            ),
            judged(__file__, "peak", table, missing=missing, derived=peaks, **facts),
        ),
        text=(
            *_floor_text(table),
            predictions.in_words(frame, {"peak_live_bytes": "the peak"}),
        ),
        tables=(
            Table(
                name="parts",
                caption="Saved bytes, peak and floor (lowest possible peak) with m micro-batches",
                frame=table,
            ),
        ),
        figures=present(picture(__file__, "composition", splits.at_peak(evidence.frame))),
    )


def _floor_text(table: pd.DataFrame) -> Iterable[str]:
    for depth, part in table.groupby("depth"):
        first = part.iloc[0]
        names = {"floor": "floor_bytes", "parameters": "parameter_bytes", "batch": "batch_bytes"}
        sizes = {name: format_bytes(int(first[column])) for name, column in names.items()}
        yield text(__file__, "floor", depth=depth, **sizes)
    yield text(__file__, "saves")


EXPERIMENT = Experiment(
    order=80,
    title="Micro-batches",
    question="How much memory does splitting a batch into micro-batches save?",
    cells=cells,
    analyse=analyse,
    repeats=2,
)

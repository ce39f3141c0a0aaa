"""Micro-batches: one effective batch in parts, whose activations never meet.

A step runs its batch in ``m`` parts, forward and backward each, and adds the gradients up
before one update. Activations shrink to a part's; parameters, gradients and the batch do not.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import predictions
from harness.analysis.decisions import ROUGHLY
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.reporting.claim_figures import composition
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table, present
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

from . import splits as micro_batches


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid: an effective batch in ever more parts of equal size."""
    depths, batch, parts = {
        Size.QUICK: ((2,), 64, (1, 2, 4, 8)),
        Size.DEFAULT: ((2, 8), 512, (1, 2, 4, 8, 16, 32, 64)),
        Size.FULL: ((2, 8, 32), 2048, (1, 2, 4, 8, 16, 32, 64, 128)),
    }[size]
    for depth in depths:
        yield from Grid(base=Workload(depth=depth, batch=batch), axes={"accumulate": parts})


def analyse(evidence: Evidence) -> Section:
    """Set what each number of parts takes next to the whole batch and the floor."""
    table = micro_batches.beside_whole(evidence.frame)
    split = table[table["parts"] > 1].reset_index(drop=True)
    missing = int((evidence.frame["accumulate"] > 1).sum()) - len(split)
    return Section(
        claims=(_activations(split, missing), _peak(split, missing)),
        text=(
            *_floor_text(table),
            predictions.in_words(
                predictions.with_predictions(evidence.frame, ["peak_live_bytes"]),
                {"peak_live_bytes": "the peak"},
            ),
        ),
        tables=(
            Table(
                name="parts",
                caption="Saved bytes, peak and floor of one step in m parts",
                frame=table,
            ),
        ),
        figures=present(_what_stays(evidence.frame)),
    )


def _activations(split: pd.DataFrame, missing: int) -> Claim:
    equal = split["saved_activation_bytes"] == split["saved_by_formula_bytes"]
    last = split.sort_values(["depth", "parts"]).iloc[-1]
    return decided(
        judge_cells(split, equal, ["depth", "parts"], missing=missing),
        **stated(__file__, "activations"),
        measured=f"With {int(last['parts'])} parts (depth {int(last['depth'])}) the saved "
        f"{format_bytes(int(last['whole_bytes']))} become "
        f"{format_bytes(int(last['saved_activation_bytes']))}.",
        number=f"{int(equal.sum())} of {len(split)} cells equal to the byte",
    )


def _peak(split: pd.DataFrame, missing: int) -> Claim:
    last = split[split["parts"] == split["parts"].max()]
    ratios = last["peak_over_whole"]
    above = last["peak_live_bytes"] - last["floor_bytes"]
    words = "; ".join(
        f"depth {row.depth}: {format_bytes(int(row.peak_live_bytes))} against "
        f"{format_bytes(int(row.whole_peak_bytes))}"
        for row in last.itertuples()
    )
    divided = (split["peak_over_whole"] * split["parts"] - 1).abs() <= ROUGHLY
    parts = int(last["parts"].iloc[0])
    return decided(
        judge_cells(split, divided, ["depth", "parts"], missing=missing),
        **stated(__file__, "peak", roughly=f"{ROUGHLY:.0%}"),
        measured=f"With {parts} parts the peak is {ratios.min():.3g} to {ratios.max():.3g} times "
        f"the whole batch's ({words}). It is at most {format_bytes(int(above.max()))} above the "
        "floor of parameters, gradients and the batch, because the gradient of the largest layer "
        "exists twice while it is added.",
        number=f"{ratios.min():.3g} to {ratios.max():.3g} times with {parts} parts",
    )


def _floor_text(table: pd.DataFrame) -> list[str]:
    text = []
    for depth, part in table.groupby("depth"):
        first = part.iloc[0]
        text.append(
            f"At depth {depth} the floor is {format_bytes(int(first['floor_bytes']))}. "
            f"Parameters and gradients take {format_bytes(int(first['parameter_bytes']))} each. "
            f"The batch takes {format_bytes(int(first['batch_bytes']))} and stays whole, because "
            "micro-batches are views of it."
        )
    text.append(
        "Micro-batches save no parameters, no optimizer state and nothing of the batch. The "
        "gradients are now alive during every forward pass but the first. With few parts the peak "
        "therefore falls by less than the activations do. All parts here have equal size. With "
        "unequal parts the mean of their losses is not the mean of the batch."
    )
    return text


def _what_stays(frame: pd.DataFrame) -> Figure | None:
    return composition(
        "Categories at the peak, by the number of micro-batches. Activations shrink. Gradients are "
        "alive at the peak, because every micro-batch adds to them.",
        micro_batches.at_peak(frame),
        bar="label",
        bar_label="micro-batches in a step",
        size=(8.6, 3.4),
    )


EXPERIMENT = Experiment(
    order=80,
    title="Micro-batches",
    question="Which memory does splitting a batch into micro-batches save?",
    cells=cells,
    analyse=analyse,
    repeats=2,
)

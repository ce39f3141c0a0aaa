"""Measures the state of an optimizer between steps, and the memory of the optimizer's update.

The course note trains with plain SGD. Momentum keeps one additional tensor per parameter. Adam
keeps two tensors and a step counter per parameter. The multi-tensor ("foreach") form updates all
parameters together. The update's memory matters only if a step's peak is in the optimizer phase.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Section, Table, present
from harness.schema.units import format_bytes
from harness.schema.workload import OPTIMIZERS, Grid, Workload

from . import figures, states
from .states import STATE

METRICS = {
    STATE: "the state",
    "peak_live_bytes": "the peak",
    "first_step_peak_live_bytes": "the first step's peak",
}


AXES: dict[Size, tuple[tuple[int, ...], tuple[int, ...]]] = {
    Size.QUICK: ((1, 2, 3), (16,)),
    Size.DEFAULT: ((1, 4, 8), (16, 128, 512)),
    Size.FULL: ((1, 2, 4, 8, 16, 32), (1, 16, 128, 512, 1024)),
}
"""Depths and batches for each size of the experiment."""


def cells(size: Size) -> Iterable[Workload]:
    """Yield every optimizer at each depth and batch; the full size adds ``foreach`` settings."""
    depths, batches = AXES[size]
    forms = [(name, form) for name in OPTIMIZERS[1:] for form in ("off", "on")]
    if size is not Size.FULL:
        forms = [(name, "off") for name in OPTIMIZERS[1:]] + [("adam", "on"), ("adamw", "on")]
    for name, form in [("none", "auto"), *forms]:
        base = Workload(optimizer=name, foreach=form)
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})
        if size is Size.QUICK:
            yield base.replace(depth=3, batch=512)


def analyse(evidence: Evidence) -> Section:
    """Compare peaks and the bytes of optimizer states with closed forms."""
    table = predictions.with_predictions(evidence.frame, list(METRICS))
    table = table[table["peak_live_bytes"].notna() & table[STATE].notna()].reset_index(drop=True)
    if table.empty:
        raise AnalysisError("no training cell has a peak with its categories")
    table = states.with_states(table.assign(update=_names(table)))
    table = table.sort_values(["update", "depth", "batch"], key=_in_order, ignore_index=True)
    missing = len(evidence.frame) - len(table)
    return Section(
        claims=_claims(table, missing),
        text=(predictions.in_words(table, METRICS), *_texts(table)),
        tables=(
            states.state_table(table),
            _peak_table(table),
            *predictions.miss_tables(table, list(METRICS)),
        ),
        figures=present(figures.composition(table)),
    )


def _claims(table: pd.DataFrame, missing: int) -> tuple[Claim, ...]:
    forms = "; ".join(
        f"{states.state_form(part) or 'no exact formula'} ({name})"
        for name, part in table.groupby("optimizer", sort=False)
    )
    layers = " Here “layer” is the number of linear layers." if "layer" in forms else ""
    equal = int((table[STATE] == table["expected"]).sum()), len(table)
    peaks = predictions.equal_cells(table, "peak_live_bytes")
    return (
        judged(
            __file__, "state", table, missing=missing, derived=equal, forms=forms, layers=layers
        ),
        judged(__file__, "floor", table, missing=missing, derived=peaks),
    )


def _texts(table: pd.DataFrame) -> Iterable[str]:
    kept = table[(table[STATE] > 0) & table["first_step_peak_live_bytes"].notna()]
    hidden = kept["peak_live_bytes"] - kept["first_step_peak_live_bytes"]
    if (hidden > 0).any():
        most = kept.iloc[int(hidden.to_numpy().argmax())]
        share = hidden.max() / most["peak_live_bytes"]
        words = f"{format_bytes(int(hidden.max()))}, or {share:.3g} of the peak "
        words += f"({most['update']}, depth {most['depth']}, batch {most['batch']})"
        counts = {"hidden": int((hidden > 0).sum()), "total": len(kept)}
        yield text(__file__, "first_step", **counts, most=words)


def _names(table: pd.DataFrame) -> "pd.Series[str]":
    """Return each row's optimizer and ``foreach`` setting as text, such as ``adam, foreach``."""
    suffix = table["foreach"].map({"on": ", foreach"}).fillna("")
    return (table["optimizer"] + suffix).astype("string")


def _in_order(column: "pd.Series[str]") -> "pd.Series[int]":
    """Return sort keys that put names in the order of OPTIMIZERS, and leave numbers unchanged."""
    if not pd.api.types.is_string_dtype(column):
        return column  # type: ignore[return-value]
    kind = column.str.split(",").str[0].map(OPTIMIZERS.index)
    return 2 * kind + column.str.endswith("foreach").astype("int64")


def _peak_table(table: pd.DataFrame) -> Table:
    columns = ["update", "depth", "batch", "parameters", STATE, "peak_phase"]
    columns += ["first_step_peak_live_bytes", "peak_live_bytes", "predicted.peak_live_bytes"]
    names = {"parameters": "parameter_bytes", STATE: "state_bytes"}
    return Table(
        name="peaks",
        caption="State, first step's peak, later steps' peak and predicted peak of every cell",
        frame=table[columns].rename(columns=names),
    )


EXPERIMENT = Experiment(
    order=40,
    title="Optimizers",
    question="Which bytes does an optimizer keep, and when does it decide the peak of a step?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)

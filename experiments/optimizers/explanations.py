"""Place of the peak, cost that a first step hides, and change by the multi-tensor form."""

import pandas as pd

from harness.analysis.frame import ok_cells
from harness.schema.units import format_bytes

from .claims import STATE


def phase_text(table: pd.DataFrame) -> str:
    """Say in how many cells the update itself is the peak, for updates alike together."""
    alike: dict[str, list[str]] = {}
    for name, part in table.groupby("update", sort=False):
        late = part[part["peak_phase"] == "optimizer"]
        largest = sorted(late.groupby("depth")["batch"].max())
        upto = f" (batch up to {_between(largest[0], largest[-1])}, by depth)" if largest else ""
        alike.setdefault(f"in {len(late)} of {len(part)} cells{upto}", []).append(str(name))
    parts = [f"for {_all(names)} {count}" for count, names in alike.items()]
    return (
        "The optimizer's update is the peak " + ". It is the peak ".join(parts) + ". In other "
        "cells the peak is in the backward pass, when the state is alive and the tensors of the "
        "update are not."
    )


def _all(names: list[str]) -> str:
    """Return the updates of a list; one with foreach says so in parentheses."""
    *others, last = [name.replace(", foreach", " (foreach)") for name in names]
    return f"{', '.join(others)} and {last}" if others else last


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def first_step_text(table: pd.DataFrame) -> list[str]:
    """Say what a first step, in which the state is only being made, does not show."""
    state = ok_cells(table[table[STATE] > 0], "first_step_peak_live_bytes")
    if state.empty:
        return []
    hidden = state["peak_live_bytes"] - state["first_step_peak_live_bytes"]
    most = state.assign(hidden=hidden).sort_values("hidden").iloc[-1]
    text = (
        f"In {int((hidden > 0).sum())} of {len(state)} cells with state, the first step has a "
        "lower peak than later steps, because the state is created at its end. A run that fits "
        "for one step may therefore fail in the second."
    )
    if hidden.max() > 0:
        text += (
            f" The largest difference is {format_bytes(int(hidden.max()))} ({most['update']}, "
            f"depth {most['depth']}, batch {most['batch']}), "
            f"{100 * (int(hidden.max()) / int(most['peak_live_bytes'])):.3g}% of the peak."
        )
    return [text]


def foreach_text(table: pd.DataFrame) -> list[str]:
    """Compare the multi-tensor form's peak with the single-tensor form's."""
    pairs = _forms_side_by_side(table)
    if pairs.empty:
        return []
    alike: dict[str, list[str]] = {}
    for name, part in pairs.groupby("optimizer", sort=False):
        extra = part["extra_bytes"]
        more, less = int((extra > 0).sum()), int((extra < 0).sum())
        counts = f"higher in {more} and lower in {less} of {len(part)} cells"
        alike.setdefault(counts if more or less else "equal in all cells", []).append(str(name))
    parts = [f"{counts} for {_all(names)}" for counts, names in alike.items()]
    return [
        "Compared with the single-tensor form, the multi-tensor form has a peak that is "
        + ", and ".join(parts)
        + ". "
        "The multi-tensor form holds a denominator for every parameter at once. The "
        "single-tensor form holds a square root and two denominators of one parameter. This is "
        "more if the first layer has most of the parameters."
    ]


def _forms_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["optimizer", "depth", "batch"]
    off, on = (
        table.loc[table["foreach"] == form, [*keys, "peak_live_bytes"]] for form in ("off", "on")
    )
    both = off.merge(on, on=keys, suffixes=("_off", "_on"))
    return both.assign(extra_bytes=both["peak_live_bytes_on"] - both["peak_live_bytes_off"])

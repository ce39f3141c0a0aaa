"""Place of the peak, cost that a first step hides, and change by the multi-tensor form."""

import pandas as pd

from harness.analysis.frame import ok_cells
from harness.schema.units import format_bytes

from .claims import STATE


def phase_text(table: pd.DataFrame) -> str:
    """Say for which updates, and up to which batch, the update itself is the peak."""
    never, parts = [], []
    for name, part in table.groupby("update", sort=False):
        late = part[part["peak_phase"] == "optimizer"]
        if late.empty:
            never.append(str(name))
            continue
        largest = late.groupby("depth")["batch"].max()
        where = ", ".join(f"{batch} at depth {depth}" for depth, batch in largest.items())
        parts.append(f"for {name} in {len(late)} of {len(part)} cells, up to batch {where}")
    parts += [f"never for {' nor '.join(never)}"] if never else []
    return (
        "The peak lies in the optimizer's update " + "; ".join(parts) + ". Elsewhere it lies in "
        "the backward pass, where the state is alive but the update's own tensors are not."
    )


def first_step_text(table: pd.DataFrame) -> list[str]:
    """Say what a first step, in which the state is only being made, does not show."""
    state = ok_cells(table[table[STATE] > 0], "first_step_peak_live_bytes")
    if state.empty:
        return []
    hidden = state["peak_live_bytes"] - state["first_step_peak_live_bytes"]
    most = state.assign(hidden=hidden).sort_values("hidden").iloc[-1]
    text = (
        f"In {int((hidden > 0).sum())} of {len(state)} cells with state the first step's peak is "
        "lower than a later step's, because the state only comes to be at its end: a run that "
        "fits for one step may fail in the second."
    )
    if hidden.max() > 0:
        text += (
            f" The most is {format_bytes(int(hidden.max()))} ({most['update']}, depth "
            f"{most['depth']}, batch {most['batch']}), "
            f"{100 * (int(hidden.max()) / int(most['peak_live_bytes'])):.3g}% of the peak."
        )
    return [text]


def foreach_text(table: pd.DataFrame) -> list[str]:
    """Compare the multi-tensor form's peak with the single-tensor form's."""
    pairs = _forms_side_by_side(table)
    if pairs.empty:
        return []
    parts = []
    for name, part in pairs.groupby("optimizer", sort=False):
        extra = part["extra_bytes"]
        more, less = int((extra > 0).sum()), int((extra < 0).sum())
        counts = f"more in {more}, less in {less}, the same in {len(part) - more - less}"
        parts.append(f"{name} {counts} of {len(part)} cells")
    return [
        "The multi-tensor form's peak against the single-tensor form's: " + "; ".join(parts) + ". "
        "It holds a denominator for every parameter at once, where the other holds a square root "
        "and two denominators, each of one parameter: in a network whose first layer is most of "
        "it, that is more than one of each."
    ]


def _forms_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["optimizer", "depth", "batch"]
    off, on = (
        table.loc[table["foreach"] == form, [*keys, "peak_live_bytes"]] for form in ("off", "on")
    )
    both = off.merge(on, on=keys, suffixes=("_off", "_on"))
    return both.assign(extra_bytes=both["peak_live_bytes_on"] - both["peak_live_bytes_off"])

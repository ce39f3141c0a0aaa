"""Draws the peak by precision, and metrics relative to float32."""

import pandas as pd

from harness.analysis.frame import AT_PEAK, ends, ok_cells
from harness.reporting.claim_figures import picture
from harness.schema.findings import Figure

from .ratios import labels

DEPTH = 8
"""Depth in the figures; if it was not measured, the figures use the largest measured depth."""


def composition(frame: pd.DataFrame) -> Figure | None:
    """Draw each precision's peak by category, at the smallest and at the largest batch."""
    known = _of_one_depth(ok_cells(frame, *AT_PEAK))
    known = ends(known.assign(label=labels), "batch").sort_values("batch", kind="stable")
    panel = [f"Depth {d}, batch {b}" for d, b in zip(known["depth"], known["batch"], strict=True)]
    known = known.assign(panel=panel)
    return picture(__file__, "composition", known[["panel", "label", "depth", "batch", *AT_PEAK]])


def _of_one_depth(cells: pd.DataFrame) -> pd.DataFrame:
    chosen = DEPTH if (cells["depth"] == DEPTH).any() else cells["depth"].max()
    return cells[cells["depth"] == chosen].reset_index(drop=True)


def ratio_figure(table: pd.DataFrame) -> Figure | None:
    """Draw the saved bytes and the peak against the batch, both divided by the float32 values."""
    own = _of_one_depth(table[table["precision"] != "float32"])
    long = own.rename(columns={"saved_ratio": "Saved for backward", "peak_ratio": "Peak"}).melt(
        ["precision", "depth", "batch"],
        ["Saved for backward", "Peak"],
        var_name="panel",
        value_name="times_float32",
    )
    data = long.astype({"times_float32": "float64"})
    return picture(__file__, "times-float32", data, depth=own["depth"].max() if len(own) else 0)

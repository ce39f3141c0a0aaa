"""Draws the live bytes at the peak by category, for each optimizer."""

import pandas as pd

from harness.analysis.frame import AT_PEAK, ends
from harness.reporting.claim_figures import picture
from harness.schema.findings import Figure


def composition(table: pd.DataFrame) -> Figure | None:
    """Draw live bytes at the peak by category, at the smallest and at the largest batch."""
    deepest = table[table["depth"] == table["depth"].max()]
    extremes = ends(deepest, "batch").sort_values("batch", kind="stable")
    extremes = extremes.assign(panel="Batch " + extremes["batch"].map("{:,}".format))
    data = extremes[["panel", "update", *AT_PEAK]]
    return picture(__file__, "composition", data, depth=deepest["depth"].max())

"""Compares steps that split their batch into micro-batches with steps that do not."""

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import AT_PEAK, ok_cells

_KEYS = ["depth", "batch"]


def beside_whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Join each successful step with the unsplit step that has the same depth and batch size.

    The column ``parts`` is the number of micro-batches, and ``rows`` is the number of examples in
    the largest micro-batch. ``whole_bytes`` is the size of the unsplit step's saved activations.
    ``floor_bytes`` is the size of all tensors alive before the step.

    Raises:
        AnalysisError: there is no unsplit step, or no step with several micro-batches.

    """
    metrics = ["saved_activation_bytes", "peak_live_bytes", "live_at_start_bytes"]
    known = ok_cells(frame, *metrics, *AT_PEAK)
    whole = known[known["accumulate"] == 1]
    both = known.merge(whole[[*_KEYS, *metrics]], on=_KEYS, suffixes=("", "_whole"))
    if both.empty or not bool((both["accumulate"] > 1).any()):
        raise AnalysisError("micro-batches need a cell in one part and one in several")
    rows = -(-both["batch"] // both["accumulate"])
    units = both["depth"] * both["width"] + both["classes"]
    table = pd.DataFrame(
        {
            "depth": both["depth"],
            "batch": both["batch"],
            "parts": both["accumulate"],
            "rows": rows,
            "saved_activation_bytes": both["saved_activation_bytes"],
            "saved_by_formula_bytes": 4 * rows * units + 4,
            "whole_bytes": both["saved_activation_bytes_whole"],
            "peak_live_bytes": both["peak_live_bytes"],
            "whole_peak_bytes": both["peak_live_bytes_whole"],
            "peak_over_whole": both["peak_live_bytes"] / both["peak_live_bytes_whole"],
            "floor_bytes": both["live_at_start_bytes"],
            "parameter_bytes": both["categories_at_peak.parameter"],
            "batch_bytes": both["categories_at_peak.input"],
        }
    )
    return table.sort_values([*_KEYS, "parts"]).reset_index(drop=True)


def at_peak(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the live bytes at each step's peak, by category."""
    known = ok_cells(frame, *AT_PEAK).sort_values([*_KEYS, "accumulate"])
    known = known.assign(
        panel="Depth " + known["depth"].astype("string"),
        label=known["accumulate"].astype("string"),
        parts=known["accumulate"],
    )
    return known[["panel", "label", "parts", *AT_PEAK]]

"""Compares a process's RSS rise with the rise of the allocation trace."""

import pandas as pd

from harness.analysis.frame import ok_cells

BIG_RISE_BYTES = 16 * 10**6
"""Smallest rise of a trace that is compared; pages and heap are too coarse for smaller rises."""
RESOLVED_BYTES = 2**20
"""Smallest rise that is tested; pages, counters and heap hide smaller rises."""
MMAP_THRESHOLD_BYTES = 64 * 2**10
"""Threshold of the pinned malloc policy; smaller blocks come from a heap that is freed in part."""
_NEEDED = ("rss_rise_bytes", "peak_live_bytes", "live_at_start_bytes")


def resolved(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells whose step adds at least RESOLVED_BYTES to the trace."""
    known = ok_cells(frame, *_NEEDED)
    return known[trace_rise(known) >= RESOLVED_BYTES].reset_index(drop=True)


def trace_rise(known: pd.DataFrame) -> "pd.Series[int]":
    """Return the rise of the live bytes from the point at which the RSS rise starts.

    The RSS rise starts when the gradients of the previous step are dropped. Old records lack
    ``live_before_forward_bytes``; their RSS rise starts while these gradients are still alive.
    """
    start = known["live_before_forward_bytes"].fillna(known["live_at_start_bytes"])
    return known["peak_live_bytes"] - start


def next_to_trace(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of the RSS rise and the trace's rise for cells with a big trace rise.

    The trace's rise is its peak minus the live bytes without gradients. Columns: ``depth, batch,
    peak_bytes, trace_rise_bytes, rss_rise_bytes, spread_over_repeats_bytes, difference_percent,
    one_activation_bytes, from_the_heap`` (an activation is below the mmap threshold).
    """
    known = ok_cells(frame, *_NEEDED)
    known = known[trace_rise(known) > BIG_RISE_BYTES].sort_values(["depth", "batch"])
    rise = trace_rise(known)
    size = known["dtype"].map({"float64": 8, "float32": 4}).fillna(2).astype("Int64")
    block = known["batch"] * known["width"] * size
    small = (block < MMAP_THRESHOLD_BYTES).fillna(value=False).astype(bool)
    table = known[["depth", "batch"]].assign(
        peak_bytes=known["peak_live_bytes"],
        trace_rise_bytes=rise,
        rss_rise_bytes=known["rss_rise_bytes"],
        spread_over_repeats_bytes=known["rss_rise_spread_bytes"],
        difference_percent=(100 * (known["rss_rise_bytes"] / rise - 1)).astype("float64"),
        one_activation_bytes=block,
        from_the_heap=small.map({True: "yes", False: "no"}),
    )
    return table.reset_index(drop=True)

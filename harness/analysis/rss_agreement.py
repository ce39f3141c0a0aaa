"""Compares the rise of a process's RSS with the rise of live bytes in the allocation trace."""

import pandas as pd

from harness.analysis.frame import ok_cells

BIG_RISE_BYTES = 16 * 10**6
"""Rises of live bytes above this size are compared with RSS; pages and heap hide smaller rises."""
RESOLVED_BYTES = 2**20
"""Smallest rise of live bytes for which the growth of RSS is tested; pages, counters and heap hide
smaller rises."""
MMAP_THRESHOLD_BYTES = 64 * 2**10
"""Smallest block for which the pinned malloc policy uses mmap. Smaller blocks are in the heap,
which malloc returns to the kernel only in part."""
_NEEDED = ("rss_rise_bytes", "peak_live_bytes", "live_at_start_bytes")


def resolved(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in which a step adds at least RESOLVED_BYTES of live bytes."""
    known = ok_cells(frame, *_NEEDED)
    return known[trace_rise(known) >= RESOLVED_BYTES].reset_index(drop=True)


def trace_rise(known: pd.DataFrame) -> "pd.Series[int]":
    """Return the peak of live bytes minus the live bytes when the RSS measurement starts.

    The RSS measurement starts when the gradients of the previous step are freed. Old records lack
    ``live_before_forward_bytes``; for these records, the value at the start of the step is
    subtracted.
    """
    start = known["live_before_forward_bytes"].fillna(known["live_at_start_bytes"])
    return known["peak_live_bytes"] - start


def next_to_trace(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rises of RSS and of live bytes, for rises of live bytes above BIG_RISE_BYTES.

    The column ``one_activation_bytes`` is the size of a hidden layer's output. ``from_the_heap`` is
    "yes" if ``one_activation_bytes`` is below the mmap threshold.
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

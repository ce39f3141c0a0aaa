"""RSS rise against what the tensors need, under two malloc policies."""

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError

_KEYS = ["malloc", "depth", "batch"]


def next_to_trace(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per policy, depth and batch, over its processes (seeds).

    The trace's rise is the peak less what was alive before the step. Columns: ``malloc, depth,
    batch, processes, trace_rise_bytes, rss_rise_bytes`` (median over processes of the median
    over repeats), ``low_bytes, high_bytes`` (over processes), ``difference_percent,
    over_repeats_percent`` (largest spread within a process), ``over_processes_percent``; the
    percentages are of the trace's rise.

    Raises:
        AnalysisError: no cell has both rises.

    """
    needed = ["rss_rise_bytes", "rss_rise_spread_bytes", "peak_live_bytes", "live_at_start_bytes"]
    good = (frame["outcome"] == "ok") & frame[needed].notna().all(axis=1)
    known = frame[good]
    known = known.assign(rise=known["peak_live_bytes"] - known["live_at_start_bytes"])
    known = known[known["rise"] > 0]
    if known.empty:
        raise AnalysisError("no cell has both an RSS rise and a trace")
    rows = []
    for _, part in known.groupby(_KEYS, sort=True):
        first = part.iloc[0]
        rise = int(first["rise"])
        rss = part["rss_rise_bytes"].to_numpy(dtype=np.int64)
        middle, low, high = int(np.median(rss)), int(rss.min()), int(rss.max())
        rows.append(
            {
                "malloc": first["malloc"],
                "depth": int(first["depth"]),
                "batch": int(first["batch"]),
                "processes": len(part),
                "trace_rise_bytes": rise,
                "rss_rise_bytes": middle,
                "low_bytes": low,
                "high_bytes": high,
                "difference_percent": 100 * (middle / rise - 1),
                "over_repeats_percent": 100 * int(part["rss_rise_spread_bytes"].max()) / rise,
                "over_processes_percent": 100 * (high - low) / rise,
            }
        )
    return pd.DataFrame(rows)

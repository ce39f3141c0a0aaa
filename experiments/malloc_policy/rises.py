"""RSS rise against what the tensors need, under two malloc policies."""

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.rss_agreement import trace_rise

_KEYS = ["malloc", "depth", "batch"]


def next_to_trace(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per policy, depth and batch, over its fork servers.

    Records that do not name their fork server count as those of one.

    The trace's rise is the peak less what was alive without gradients. Columns: ``malloc, depth,
    batch, fork_servers, trace_rise_bytes, rss_rise_bytes`` (median over fork servers of the
    median over repeats), ``low_bytes, high_bytes`` (over fork servers), ``difference_percent,
    over_repeats_percent`` (largest spread within a process), ``over_servers_percent``; the
    percentages are of the trace's rise.

    Raises:
        AnalysisError: no cell has both rises.

    """
    needed = ["rss_rise_bytes", "rss_rise_spread_bytes", "peak_live_bytes", "live_at_start_bytes"]
    good = (frame["outcome"] == "ok") & frame[needed].notna().all(axis=1)
    known = frame[good]
    named = known.get("environment.fork_server", pd.Series(pd.NA, known.index)).fillna("unnamed")
    known = known.assign(rise=trace_rise(known), server=named)
    known = known[known["rise"] > 0]
    if known.empty:
        raise AnalysisError("no cell has both an RSS rise and a trace")
    rows = []
    for _, part in known.groupby(_KEYS, sort=True):
        first = part.iloc[0]
        rise = int(first["rise"])
        rss = part.groupby("server")["rss_rise_bytes"].median().to_numpy(dtype=np.int64)
        middle, low, high = int(np.median(rss)), int(rss.min()), int(rss.max())
        rows.append(
            {
                "malloc": first["malloc"],
                "depth": int(first["depth"]),
                "batch": int(first["batch"]),
                "fork_servers": len(rss),
                "trace_rise_bytes": rise,
                "rss_rise_bytes": middle,
                "low_bytes": low,
                "high_bytes": high,
                "difference_percent": 100 * (middle / rise - 1),
                "over_repeats_percent": 100 * int(part["rss_rise_spread_bytes"].max()) / rise,
                "over_servers_percent": 100 * (high - low) / rise,
            }
        )
    return pd.DataFrame(rows)

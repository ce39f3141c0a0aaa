"""The allocation events of a traced cell, read from their file and checked."""

from pathlib import Path

import pandas as pd

from harness.analysis import AnalysisError
from harness.schema.events import CATEGORIES

_NEEDED = ["order", "step", "phase", "category", "size_bytes", "live_bytes"]


def read_events(path: Path) -> pd.DataFrame:
    """Return the allocation events of one traced cell, in order.

    Raises:
        AnalysisError: no such file, a column missing, a running sum that is not the sum, or a
            category that this harness does not know.
    """
    try:
        events = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path.name}: {error}") from error
    missing = [name for name in _NEEDED if name not in events]
    if missing or events.empty:
        raise AnalysisError(f"{path.name}: no events with columns {', '.join(missing or _NEEDED)}")
    events = events.sort_values("order", kind="stable", ignore_index=True)
    if not (events["size_bytes"].cumsum() == events["live_bytes"]).all():
        raise AnalysisError(f"{path.name}: live_bytes is not the running sum of size_bytes")
    unknown = set(events["category"].dropna()) - set(CATEGORIES)
    if unknown:
        names = ", ".join(sorted(map(str, unknown)))
        raise AnalysisError(f"{path.name}: unknown categories: {names}")
    return events

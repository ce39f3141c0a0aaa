"""Live bytes by category, event by event, over the measured step of a traced cell."""

from pathlib import Path

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.schema.events import CATEGORIES

_NEEDED = ["order", "step", "phase", "category", "size_bytes", "live_bytes"]


def read_events(path: Path) -> pd.DataFrame:
    """Return the allocation events of one traced cell, in order.

    Raises:
        AnalysisError: no such file, a column missing, or a running sum that is not the sum.

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
    return events


def live_by_category(events: pd.DataFrame) -> pd.DataFrame:
    """Return what is alive after each event of the last step: a row an event.

    Columns: ``event`` (0 is the state just before the step), ``phase``, one per category, and
    ``live_bytes``, their sum.

    Raises:
        AnalysisError: a category that this harness does not know.

    """
    unknown = set(events["category"].dropna()) - set(CATEGORIES)
    if unknown:
        raise AnalysisError(f"unknown categories: {', '.join(sorted(map(str, unknown)))}")
    sizes = events["size_bytes"].to_numpy(dtype=np.int64)
    names = events["category"].to_numpy(dtype=object)
    alive = {name: np.where(names == name, sizes, 0).cumsum() for name in CATEGORIES}
    measured = (events["step"] == events["step"].max()).to_numpy()
    first = int(measured.argmax())
    start = max(first - 1, 0)
    phases = [str(phase) for phase in events["phase"].fillna("").iloc[start:]]
    if first > 0 and len(phases) > 1:
        phases[0] = phases[1]
    table = pd.DataFrame({"event": range(len(phases)), "phase": phases})
    for name in CATEGORIES:
        table[name] = alive[name][start:]
    return table.assign(live_bytes=table[list(CATEGORIES)].sum(axis=1))


def thin(table: pd.DataFrame, most: int = 1500) -> pd.DataFrame:
    """Return at most about ``most`` rows of a timeline: of each run of events, the highest.

    The peak and both ends stay; a picture cannot show more.
    """
    if len(table) <= most:
        return table
    group = np.arange(len(table)) * most // len(table)
    kept = table.groupby(group, sort=True)["live_bytes"].idxmax()
    rows = sorted({0, len(table) - 1, *map(int, kept)})
    return table.loc[rows].reset_index(drop=True)

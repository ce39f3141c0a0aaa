"""Live bytes by category, event by event, over the measured step: what a timeline shows."""

import numpy as np
import pandas as pd

from harness.schema.category_colours import CATEGORY_COLOURS


def live_by_category(events: pd.DataFrame) -> pd.DataFrame:
    """Return what is alive after each event of the last step: a row an event.

    Columns: ``event`` (0 is the state just before the step), ``phase``, one per category, and
    ``live_bytes``, their sum.
    """
    sizes = events["size_bytes"].to_numpy(dtype=np.int64)
    names = events["category"].to_numpy(dtype=object)
    alive = {name: np.where(names == name, sizes, 0).cumsum() for name in CATEGORY_COLOURS}
    measured = (events["step"] == events["step"].max()).to_numpy()
    first = int(measured.argmax())
    start = max(first - 1, 0)
    phases = [str(phase) for phase in events["phase"].fillna("").iloc[start:]]
    if first > 0 and len(phases) > 1:
        phases[0] = phases[1]
    table = pd.DataFrame({"event": range(len(phases)), "phase": phases})
    for name in CATEGORY_COLOURS:
        table[name] = alive[name][start:]
    return table.assign(live_bytes=table[list(CATEGORY_COLOURS)].sum(axis=1))


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

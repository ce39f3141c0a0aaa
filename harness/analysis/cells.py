"""Selects the cells of a frame of records that an analysis can use."""

import pandas as pd

from harness.schema.events import CATEGORIES

AT_PEAK = [f"categories_at_peak.{name}" for name in CATEGORIES]
"""The columns with the bytes of each category at the peak."""


def ok_cells(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the cells that ended well and have a value in each of ``columns``.

    >>> frame = pd.DataFrame({"outcome": ["ok", "oom", "ok"], "saved_bytes": [4, None, None]})
    >>> ok_cells(frame, "saved_bytes")["saved_bytes"].tolist()
    [4.0]
    """
    usable = (frame["outcome"] == "ok") & frame[list(columns)].notna().all(axis=1)
    return frame[usable].reset_index(drop=True)


def categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` with the columns of AT_PEAK named by their category alone."""
    return frame.rename(columns=dict(zip(AT_PEAK, CATEGORIES, strict=True)))


def ends(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the cells with the smallest and those with the largest value of ``column``.

    >>> ends(pd.DataFrame({"batch": [8, 1, 4]}), "batch")["batch"].tolist()
    [8, 1]
    """
    return frame[frame[column].isin([frame[column].min(), frame[column].max()])]

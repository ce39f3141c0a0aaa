"""Loads records and allocation events from disk as data frames with exact integers."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from harness.analysis import AnalysisError
from harness.plots import frames
from harness.plots.columns import typed_frame
from harness.schema.events import CATEGORIES
from harness.schema.metrics import ProcessBytes
from harness.schema.plain_file import check_plain
from harness.schema.record import RECORDS as RECORDS
from harness.schema.record import RecordError, from_json

Line = TypeVar("Line")

_CHUNK = 8192

_RSS = ("rss_rise_bytes", "rss_rise_spread_bytes", "rss_peak_bytes")
PROCESS_PARTS = tuple(f"process.{name}" for name in frames.dtypes(ProcessBytes))
NOISY = frozenset({*_RSS, *PROCESS_PARTS, "wall_seconds", "cuda.outside_bytes"})
"""Metrics that can differ between repeats of a step; all other metrics are exact."""

COLUMNS = {"experiment": "string", **frames.COLUMNS}
"""Dtypes of the columns of every frame; ``environment.<key>`` columns follow these columns."""


def load(folder: Path | str) -> pd.DataFrame:
    """Read the records of a run into a DataFrame.

    Args:
        folder: a folder with ``records.jsonl``, or with experiment folders that contain this file.

    Returns:
        One row per cell (workload), from the cell's last record. Sizes are in bytes, in nullable
        ``Int64`` columns. Unknown values are missing (``NA``). An incomplete last line of a file is
        skipped and named in ``frame.attrs["notes"]``.

    Raises:
        RecordError: a records file is missing, or a line is not a record.

    >>> import tempfile, harness
    >>> step = harness.Workload(width=8, in_features=8, batch=4)
    >>> frame = harness.load(harness.sweep([step], out=tempfile.mkdtemp(), repeats=1))
    >>> frame["outcome"].tolist(), frame["saved_bytes"].tolist()
    (['ok'], [452])
    """
    return load_files(record_files(Path(folder)))


def load_files(files: Iterable[Path]) -> pd.DataFrame:
    """Read ``files`` as ``load`` does; each experiment gets the name of its file's folder."""
    notes: list[str] = []
    chunks: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    for path in files:
        for record in read_lines(path, from_json, notes):
            rows.append({"experiment": path.parent.resolve().name, **frames.record_row(record)})
            if len(rows) == _CHUNK:
                chunks.append(typed_frame(rows, COLUMNS))
                rows = []
    chunks.append(typed_frame(rows, COLUMNS))
    frame = _join(chunks)
    frame.attrs["notes"] = tuple(notes)
    return frame


def record_files(folder: Path) -> list[Path]:
    """Return a folder's ``records.jsonl``, or the files of its subfolders, sorted by name."""
    own = folder / RECORDS
    files = [own] if own.is_file() else sorted(folder.glob(f"*/{RECORDS}"))
    if not files:
        raise RecordError(f"{folder}: no {RECORDS} here nor in a folder directly below")
    return files


def read_lines(
    path: Path, decode: Callable[[bytes], Line], notes: list[str] | None = None
) -> Iterator[Line]:
    """Yield the decoded lines; skip an incomplete last line, and add a message to ``notes``."""
    failure: RecordError | None = None
    check_plain(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if failure is not None:
                raise failure
            try:
                decoded = decode(line)
            except RecordError as error:
                failure = RecordError(f"{path}:{number}: {error}")
                failure.__cause__ = error
                if _is_json(line):
                    raise failure from error
                continue
            yield decoded
    if failure is not None and notes is not None:
        notes.append(f"{path.parent.name}/{path.name}: line {number}, the last, is torn; skipped")


def lines_if_there(path: Path, decode: Callable[[bytes], Line]) -> list[Line]:
    """Return the lines that ``read_lines`` yields; an empty list if the file is missing."""
    return list(read_lines(path, decode)) if path.is_file() else []


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _join(chunks: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames, keep the last row of every cell, and sort the columns."""
    frame = pd.concat(chunks, ignore_index=True)
    known = [name for name in frame.columns if name in COLUMNS]
    rest = sorted(set(frame.columns) - set(known))
    cell = ["experiment", "workload_id"]
    return frame[known + rest].drop_duplicates(subset=cell, keep="last", ignore_index=True)


_NEEDED = ["order", "step", "phase", "category", "size_bytes", "live_bytes"]


def read_events(path: Path) -> pd.DataFrame:
    """Read a traced cell's allocation events from a CSV file, sorted by ``order``."""
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


AT_PEAK = [f"categories_at_peak.{name}" for name in CATEGORIES]
"""Names of the columns with the live bytes of each category at the peak."""


def ok_cells(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the rows of successful cells that have a value in each of ``columns``.

    >>> frame = pd.DataFrame({"outcome": ["ok", "oom", "ok"], "saved_bytes": [4, None, None]})
    >>> ok_cells(frame, "saved_bytes")["saved_bytes"].tolist()
    [4.0]
    """
    usable = (frame["outcome"] == "ok") & frame[list(columns)].notna().all(axis=1)
    return frame[usable].reset_index(drop=True)


def categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns of AT_PEAK to bare category names, such as ``gradient``."""
    return frame.rename(columns=dict(zip(AT_PEAK, CATEGORIES, strict=True)))


def ends(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows in which ``column`` has its smallest or its largest value.

    >>> ends(pd.DataFrame({"batch": [8, 1, 4]}), "batch")["batch"].tolist()
    [8, 1]
    """
    return frame[frame[column].isin([frame[column].min(), frame[column].max()])]

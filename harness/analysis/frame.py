"""Records on disk to one DataFrame: a row per cell, exact integers, null where unknown."""

import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pandas as pd

from harness.schema.events import PHASES
from harness.schema.record import (
    CategoryBytes,
    CudaMetrics,
    CudaPeaks,
    Metrics,
    PhaseMetrics,
    Record,
    RecordError,
    from_json,
)
from harness.schema.workload import Workload

RECORDS = "records.jsonl"

Line = TypeVar("Line")

_CHUNK = 8192
_NESTED: dict[str, type[msgspec.Struct]] = {
    "categories_at_peak": CategoryBytes,
    "cuda": CudaMetrics,
    "cuda.first_step": CudaPeaks,
    **{f"cuda.phases.{phase}": CudaPeaks for phase in PHASES},
}
_LEFT_OUT = {"modules", "phases", *_NESTED}
_CELL = ["experiment", "workload_id"]


def _kind(annotation: Any) -> str:
    """Return the pandas dtype for values of ``annotation``: whole, real or text."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        inner = [part for part in typing.get_args(annotation) if part is not types.NoneType]
        return _kind(inner[0])
    return {int: "Int64", float: "Float64"}.get(annotation, "string")


def _columns() -> dict[str, str]:
    """Return every column that each frame has, with its dtype, in order."""
    columns = {"experiment": "string", "workload_id": "string"}
    for name, hint in typing.get_type_hints(Workload).items():
        columns[name] = _kind(hint)
    columns |= {"outcome": "string", "reason": "string", "attempt": "Int64", "repeats": "Int64"}
    for name, hint in typing.get_type_hints(Metrics, include_extras=True).items():
        if name not in _LEFT_OUT:
            columns[name] = _kind(hint)
    for phase in PHASES:
        for name in PhaseMetrics.__struct_fields__:
            columns[f"phases.{phase}.{name}"] = "Int64"
    for prefix, struct in _NESTED.items():
        columns |= {f"{prefix}.{name}": "Int64" for name in _counts(struct)}
    return columns | {"rss_rise_spread_bytes": "Int64", "wall_seconds": "Float64"}


def _counts(struct: type[msgspec.Struct]) -> list[str]:
    """Return the fields of ``struct`` that hold a number, not figures of their own."""
    return [name for name in struct.__struct_fields__ if name not in ("first_step", "phases")]


NOISY = frozenset({"rss_rise_bytes", "rss_rise_spread_bytes", "wall_seconds", "cuda.outside_bytes"})
"""Metrics that a repetition may change; all others are exact."""

COLUMNS = _columns()
"""Columns of every frame, with their dtypes; ``environment.<key>`` columns follow them."""


def load(folder: Path | str) -> pd.DataFrame:
    """Read the records of a run into a DataFrame.

    Args:
        folder: a folder with ``records.jsonl``, or with folders of experiments that have one.

    Returns:
        One row for each cell, its last record. Sizes are bytes in nullable ``Int64`` columns, so
        they stay exact; unknown values are missing. ``frame.attrs["notes"]`` says what was
        skipped: a torn last line that an interrupted writer left.

    Raises:
        RecordError: there is no records file, or a line is not a record; names file and line.

    >>> import tempfile, harness
    >>> step = harness.Workload(width=8, in_features=8, batch=4)
    >>> frame = harness.load(harness.sweep([step], out=tempfile.mkdtemp(), repeats=1))
    >>> frame["outcome"].tolist(), frame["saved_bytes"].tolist()
    (['ok'], [452])

    """
    return load_files(record_files(Path(folder)))


def load_files(files: Iterable[Path]) -> pd.DataFrame:
    """Return the records of ``files``, each in its experiment's folder, as ``load`` does."""
    notes: list[str] = []
    chunks: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    for path in files:
        for record in read_records(path, notes):
            rows.append(_flatten(path.parent.resolve().name, record))
            if len(rows) == _CHUNK:
                chunks.append(_typed(rows))
                rows = []
    chunks.append(_typed(rows))
    frame = _join(chunks)
    frame.attrs["notes"] = tuple(notes)
    return frame


def record_files(folder: Path) -> list[Path]:
    """Return the records files of a run, in the order of their names.

    Raises:
        RecordError: there is none.

    """
    own = folder / RECORDS
    found = [own] if own.is_file() else sorted(folder.glob(f"*/{RECORDS}"))
    if not found:
        raise RecordError(f"{folder}: no {RECORDS} here nor in a folder directly below")
    return found


def read_records(path: Path, notes: list[str]) -> Iterator[Record]:
    """Yield the records of one file, as ``read_lines`` does."""
    return read_lines(path, from_json, notes)


def read_lines(
    path: Path, decode: Callable[[bytes], Line], notes: list[str] | None = None
) -> Iterator[Line]:
    """Yield what ``decode`` makes of each line; a torn last line becomes one of ``notes``.

    Raises:
        RecordError: a line that cannot be decoded, with file and line number.

    """
    failure: RecordError | None = None
    number = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if failure is not None:
                raise failure
            try:
                found = decode(line)
            except RecordError as error:
                failure = RecordError(f"{path}:{number}: {error}")
                failure.__cause__ = error
                if _is_json(line):
                    raise failure from error
                continue
            yield found
    if failure is not None and notes is not None:
        notes.append(f"{path.parent.name}/{path.name}: line {number}, the last, is torn; skipped")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _flatten(experiment: str, record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"experiment": experiment, "workload_id": record.workload_id}
    for name in Workload.__dataclass_fields__:
        row[name] = getattr(record.workload, name)
    row["hidden"] = ",".join(map(str, record.workload.hidden)) or None
    row["outcome"] = record.outcome.value
    row["reason"] = _text(record.evidence) if record.evidence else None
    row["attempt"] = record.attempt
    row["repeats"] = len(record.repeats)
    row["wall_seconds"] = record.wall_seconds
    for name in Metrics.__struct_fields__:
        if name not in _LEFT_OUT:
            row[name] = getattr(record, name)
    for phase, figures in (record.phases or {}).items():
        row[f"phases.{phase}.peak_live_bytes"] = figures.peak_live_bytes
    for prefix, struct in _NESTED.items():
        values = _nested(record, prefix)
        if values is not None:
            row |= {f"{prefix}.{name}": getattr(values, name) for name in _counts(struct)}
    rises = [item.rss_rise_bytes for item in record.repeats if item.rss_rise_bytes is not None]
    row["rss_rise_spread_bytes"] = max(rises) - min(rises) if rises else None
    for key, value in record.environment.items():
        row[sys.intern(f"environment.{key}")] = _text(value)
    return row


def _nested(record: Record, path: str) -> Any:
    """Return the figures at ``path``, such as ``cuda.phases.forward``, or None."""
    found: Any = record
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
    return found


def _text(value: Any) -> str | None:
    """Return ``value`` of an open-ended mapping as text, one object for equal texts."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return sys.intern(text)


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return ``rows`` as columns of their dtypes, columns unknown beforehand as text."""
    extra = {name: "string" for row in rows for name in row if name not in COLUMNS}
    return pd.DataFrame(
        {
            name: pd.array([row.get(name) for row in rows], dtype=_dtype(name, kind))
            for name, kind in (COLUMNS | extra).items()
        }
    )


def _dtype(name: str, kind: str) -> Any:
    return "Int64" if name.startswith("phases.") else kind


def _join(chunks: list[pd.DataFrame]) -> pd.DataFrame:
    """Return one frame with the last row of every cell, columns in a fixed order."""
    frame = pd.concat(chunks, ignore_index=True) if len(chunks) > 1 else chunks[0]
    known = [name for name in frame.columns if name in COLUMNS]
    rest = sorted(name for name in frame.columns if name not in COLUMNS)
    frame = frame[known + rest].drop_duplicates(subset=_CELL, keep="last", ignore_index=True)
    return frame.copy()

"""Records and predictions as rows of a data frame: the names, types and order of its columns.

``harness.load`` makes a frame of many records, ``Record.to_frame`` and ``StepReport.to_frame``
one of a single row. pandas is loaded when a frame is made, not before.
"""

import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from harness.schema.events import PHASES
from harness.schema.metrics import CategoryBytes, CudaMetrics, CudaPeaks, Metrics, PhaseMetrics
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

    from harness.schema.record import Record
    from harness.schema.step_report import StepReport

Row = Mapping[str, Any]

_NESTED: dict[str, type[msgspec.Struct]] = {
    "categories_at_peak": CategoryBytes,
    "cuda": CudaMetrics,
    "cuda.first_step": CudaPeaks,
    **{f"cuda.phases.{phase}": CudaPeaks for phase in PHASES},
}
_LEFT_OUT = {"modules", "phases", *_NESTED}


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
    columns = {"workload_id": "string"}
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
        columns |= {f"{prefix}.{name}": "Int64" for name in _numbers(struct)}
    return columns | {"rss_rise_spread_bytes": "Int64", "wall_seconds": "Float64"}


def _numbers(struct: type[msgspec.Struct]) -> list[str]:
    """Return the fields of ``struct`` that hold a number, not metrics of their own."""
    return [name for name in struct.__struct_fields__ if name not in ("first_step", "phases")]


COLUMNS = _columns()
"""Columns of every frame, with their dtypes; ``environment.<key>`` columns follow them."""


def record_row(record: "Record") -> dict[str, Any]:
    """Return the columns of a record with their values."""
    rises = [item.rss_rise_bytes for item in record.repeats if item.rss_rise_bytes is not None]
    return {
        **_shared(record),
        "reason": _text(record.evidence) if record.evidence else None,
        "attempt": record.attempt,
        "repeats": len(record.repeats),
        "rss_rise_spread_bytes": max(rises) - min(rises) if rises else None,
    }


def report_row(report: "StepReport") -> dict[str, Any]:
    """Return the columns of a report with their values."""
    return {**_shared(report), "reason": report.reason}


def _shared(value: "Record | StepReport") -> dict[str, Any]:
    workload = value.workload
    row: dict[str, Any] = {"workload_id": value.workload_id}
    if workload is not None:
        row |= {name: getattr(workload, name) for name in Workload.__dataclass_fields__}
        row["hidden"] = ",".join(map(str, workload.hidden)) or None
    row["outcome"] = value.outcome.value
    row["wall_seconds"] = value.wall_seconds
    for name in Metrics.__struct_fields__:
        if name not in _LEFT_OUT:
            row[name] = getattr(value, name)
    for phase, metrics in (value.phases or {}).items():
        row[f"phases.{phase}.peak_live_bytes"] = metrics.peak_live_bytes
    for prefix, struct in _NESTED.items():
        metrics = _nested(value, prefix)
        if metrics is not None:
            row |= {f"{prefix}.{name}": getattr(metrics, name) for name in _numbers(struct)}
    for key, setting in value.environment.items():
        row[sys.intern(f"environment.{key}")] = _text(setting)
    return row


def _nested(value: "Record | StepReport", path: str) -> Any:
    """Return the metrics at ``path``, such as ``cuda.phases.forward``, or None."""
    inner: Any = value
    for name in path.split("."):
        inner = inner.get(name) if isinstance(inner, dict) else getattr(inner, name, None)
    return inner


def _text(value: Any) -> str | None:
    """Return ``value`` of an open-ended mapping as text, one object for equal texts."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return sys.intern(text)


def typed_frame(rows: Sequence[Row], columns: Mapping[str, str] = COLUMNS) -> "pd.DataFrame":
    """Return ``rows`` as a frame of ``columns`` with their dtypes; further ones are text."""
    import pandas as pd

    extra = sorted({name for row in rows for name in row if name not in columns})
    kinds = dict(columns)
    kinds |= {name: "Int64" if name.startswith("phases.") else "string" for name in extra}
    return pd.DataFrame(
        {
            name: pd.array([row.get(name) for row in rows], dtype=kind)  # type: ignore[call-overload]
            for name, kind in kinds.items()
        }
    )

"""Converts records and predictions to data frames with typed columns in a fixed order.

``harness.load`` returns a frame with many rows. ``Record.to_frame`` and ``StepReport.to_frame``
return a frame with one row.
"""

import json
import sys
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from harness.plots.columns import typed_frame
from harness.schema.events import PHASES
from harness.schema.metrics import (
    CategoryBytes,
    CudaMetrics,
    CudaPeaks,
    Metrics,
    PhaseMetrics,
    ProcessBytes,
)
from harness.schema.record import Record
from harness.schema.step_report import StepReport
from harness.schema.threshold import FoundThreshold, Probed
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

_NESTED: dict[str, type[msgspec.Struct]] = {
    **{f"phases.{phase}": PhaseMetrics for phase in PHASES},
    "categories_at_peak": CategoryBytes,
    "process": ProcessBytes,
    "cuda": CudaMetrics,
    "cuda.first_step": CudaPeaks,
    **{f"cuda.phases.{phase}": CudaPeaks for phase in PHASES},
}
"""Type of each nested group of metrics, by the dotted path of the group."""
_LEFT_OUT = {"modules", "phases", "categories_at_peak", "process", "cuda", "first_step"}


def dtypes(described: type) -> dict[str, str]:
    """Return the pandas dtype of each field of a class; fields with nested metrics are left out.

    >>> from harness.schema.metrics import PhaseMetrics
    >>> dtypes(PhaseMetrics)
    {'peak_live_bytes': 'Int64'}
    """
    hints = typing.get_type_hints(described)
    return {name: _dtype(hint) for name, hint in hints.items() if name not in _LEFT_OUT}


def _dtype(hint: Any) -> str:
    parts = () if typing.get_origin(hint) is tuple else (hint, *typing.get_args(hint))
    return "Int64" if int in parts else "Float64" if float in parts else "string"


def _columns() -> dict[str, str]:
    """Return the dtype of each column in frames of records and predictions, in column order."""
    columns = {"workload_id": "string", **dtypes(Workload)}
    columns |= {"outcome": "string", "reason": "string", "attempt": "Int64", "repeats": "Int64"}
    columns |= dtypes(Metrics)
    for path, struct in _NESTED.items():
        columns |= {f"{path}.{name}": dtype for name, dtype in dtypes(struct).items()}
    return columns | {"rss_rise_spread_bytes": "Int64", "wall_seconds": "Float64"}


COLUMNS = _columns()
"""Columns of frames of records and predictions, except the final columns ``environment.<key>``."""


def record_row(record: Record) -> dict[str, Any]:
    """Return the values of a record by column name."""
    rises = [item.rss_rise_bytes for item in record.repeats if item.rss_rise_bytes is not None]
    return {
        **_shared(record),
        "reason": _text(record.evidence) if record.evidence else None,
        "attempt": record.attempt,
        "repeats": len(record.repeats),
        "rss_rise_spread_bytes": max(rises) - min(rises) if rises else None,
    }


def _shared(value: Record | StepReport) -> dict[str, Any]:
    workload = value.workload
    row: dict[str, Any] = {"workload_id": value.workload_id}
    if workload is not None:
        row |= {name: getattr(workload, name) for name in Workload.__dataclass_fields__}
        row["hidden"] = ",".join(map(str, workload.hidden)) or None
    row["outcome"] = value.outcome.value
    row["wall_seconds"] = value.wall_seconds
    row |= {name: getattr(value, name) for name in _FIELDS[Metrics]}
    for path, struct in _NESTED.items():
        metrics: Any = value
        for name in path.split("."):
            metrics = (
                metrics.get(name) if isinstance(metrics, dict) else getattr(metrics, name, None)
            )
        if metrics is not None:
            row |= {f"{path}.{name}": getattr(metrics, name) for name in _FIELDS[struct]}
    for key, setting in value.environment.items():
        row[sys.intern(f"environment.{key}")] = _text(setting)
    return row


_STRUCTS: tuple[type, ...] = (Metrics, *_NESTED.values())
_FIELDS = {struct: tuple(dtypes(struct)) for struct in _STRUCTS}


def _text(value: Any) -> str | None:
    """Return a value as text; equal texts are the same string object, which saves memory."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return sys.intern(text)


def record_frame(record: Record) -> "pd.DataFrame":
    """Return a one-row data frame with the values of the record."""
    return typed_frame([record_row(record)], COLUMNS)


def report_frame(report: StepReport) -> "pd.DataFrame":
    """Return a one-row data frame; for a user's own network, columns with values come first."""
    frame = typed_frame([{**_shared(report), "reason": report.reason}], COLUMNS)
    if report.workload is not None:
        return frame
    return frame[sorted(frame.columns, key=lambda name: bool(frame[name].isna().all()))]


def threshold_frame(threshold: FoundThreshold) -> "pd.DataFrame":
    """Return a data frame with one row per probe, in the order of the search."""
    return typed_frame([msgspec.to_builtins(one) for one in threshold.probes], dtypes(Probed))

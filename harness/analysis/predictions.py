"""Compares measured metrics with predicted metrics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.analysis.frame import ok_cells
from harness.prediction.mlp.predict_workload import predict
from harness.prediction.versions import nearest_known
from harness.schema.findings import Table
from harness.schema.step_report import StepReport
from harness.schema.workload import Workload


def workload_of(row: Mapping[Any, Any]) -> Workload:
    """Return the workload of a row of the data frame from ``harness.load``."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(Workload):
        value = row[item.name]
        if isinstance(value, str):
            values[item.name] = value
        elif not pd.isna(value):
            values[item.name] = float(value) if "share" in item.metadata else int(value)
    if "hidden" in values:
        values["hidden"] = tuple(int(part) for part in values["hidden"].split(","))
        values.pop("width", None)
    return Workload(**values)


def with_predictions(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the successful cells of ``frame``, with the columns ``predicted.<metric>``.

    ``metrics`` are names of columns in bytes. Metrics that the model cannot predict are missing.
    """
    known = ok_cells(frame)
    predictions = [_prediction(row) for row in known.to_dict("records")]
    columns = {
        f"predicted.{name}": pd.array([_metric(one, name) for one in predictions], dtype="Int64")
        for name in metrics
    }
    return known.assign(**columns)


def _prediction(row: Mapping[Any, Any]) -> StepReport:
    """Return the prediction for a row, for the version of PyTorch in this row.

    The installed version of PyTorch does not change the result.
    """
    measured_with = row.get("environment.torch")
    version = str(nearest_known(measured_with)) if isinstance(measured_with, str) else None
    return predict(workload_of(row), torch=version)


def _metric(prediction: StepReport, name: str) -> int | None:
    value: Any = prediction
    for part in name.split("."):
        value = None if value is None else getattr(value, part)
    return value if value is None else int(value)


def _both(cells: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """Return the cells with a measured and a predicted value, and whether the two are equal."""
    both = cells[cells[metric].notna() & cells[f"predicted.{metric}"].notna()]
    return both, (both[metric] == both[f"predicted.{metric}"]).astype(bool)


def equal_cells(cells: pd.DataFrame, metric: str) -> tuple[int, int]:
    """Count the cells whose ``metric`` equals the prediction, and the cells with a prediction.

    ``cells`` is a result of ``with_predictions``. Cells without a measured value or without a
    predicted value are left out.
    """
    both, equal = _both(cells, metric)
    return int(equal.sum()), len(both)


def miss_tables(cells: pd.DataFrame, metrics: Sequence[str]) -> list[Table]:
    """Return a list with a table of metrics that differ from the prediction; [] if none differ."""
    rows = []
    for name in metrics:
        both, equal = _both(cells, name)
        for row in both[~equal].to_dict("records"):
            measured, expected = int(row[name]), int(row[f"predicted.{name}"])
            rows.append((str(workload_of(row)), name, measured, expected, measured - expected))
    names = ["workload", "metric", "measured_bytes", "predicted_bytes", "difference_bytes"]
    frame = pd.DataFrame(rows, columns=names)
    caption = "Metrics that differ from the prediction"
    return [Table(name="misses", caption=caption, frame=frame)] if rows else []


def in_words(cells: pd.DataFrame, metrics: Mapping[str, str]) -> str:
    """Return a sentence that states in how many cells each metric equals the prediction."""
    counts = {words: equal_cells(cells, name) for name, words in metrics.items()}
    known = {words: count for words, count in counts.items() if count[1]}
    parts = [f"{words} in {equal} of {total} cells" for words, (equal, total) in known.items()]
    return f"The allocator model is exact for {', and for '.join(parts)}." if parts else ""

"""Divides the bytes in each precision by the bytes of the same network in float32."""

from itertools import pairwise

import pandas as pd

from harness.analysis import AnalysisError
from harness.schema.workload import Workload

AUTOCAST = "autocast bfloat16"
_LABEL_BYTES = 8


def labels(frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the precision of each row: its dtype, or "autocast" with the autocast dtype."""
    cast = ("autocast " + frame["autocast"]).astype("string")
    return cast.fillna(frame["dtype"]).astype("string")


def beside_float32(frame: pd.DataFrame) -> pd.DataFrame:
    """Return successful training steps, with metrics divided by those of the float32 step.

    Columns that end in ``_ratio`` are divided by the value of float32. ``saved_less_labels_ratio``
    is the ratio of the saved bytes without the int64 labels. ``saved_by_formula_bytes`` is known
    only for autocast.

    Raises:
        AnalysisError: a float32 step for the comparison is missing.

    """
    metrics = ["saved_bytes", "peak_live_bytes", "categories_at_peak.parameter"]
    good = (frame["outcome"] == "ok") & (frame["mode"] == "train")
    known = frame[good & frame[metrics].notna().all(axis=1)].assign(precision=labels)
    keys = ["depth", "batch"]
    base = known[known["precision"] == "float32"]
    if base.empty:
        raise AnalysisError("no float32 cell to compare with")
    columns = [*keys, *metrics, "wall_seconds"]
    both = known.merge(base[columns], on=keys, suffixes=("", "_float32"))
    label_bytes = _LABEL_BYTES * both["batch"]
    saved, base_saved = both["saved_bytes"], both["saved_bytes_float32"]
    table = pd.DataFrame(
        {
            "precision": both["precision"],
            "depth": both["depth"],
            "batch": both["batch"],
            "parameter_bytes": both["categories_at_peak.parameter"],
            "saved_bytes": saved,
            "peak_live_bytes": both["peak_live_bytes"],
            "parameter_ratio": _over(both, "categories_at_peak.parameter"),
            "saved_ratio": _over(both, "saved_bytes"),
            "saved_less_labels_ratio": (saved - label_bytes) / (base_saved - label_bytes),
            "peak_ratio": _over(both, "peak_live_bytes"),
            "time_ratio": _over(both, "wall_seconds"),
            "saved_by_formula_bytes": pd.array(
                [
                    autocast_saved_bytes(Workload(depth=int(depth), batch=int(batch)))
                    if name == AUTOCAST
                    else None
                    for name, depth, batch in zip(
                        both["precision"], both["depth"], both["batch"], strict=True
                    )
                ],
                dtype="Int64",
            ),
        }
    )
    return table.sort_values(["precision", *keys]).reset_index(drop=True)


def _over(both: pd.DataFrame, name: str) -> "pd.Series[float]":
    return (both[name] / both[f"{name}_float32"]).astype("Float64")


def autocast_saved_bytes(workload: Workload) -> int:
    """Return the bytes that an MLP with ReLU saves under autocast to a two-byte dtype.

    The copy of the first layer's weight is not saved, because the first layer's input does not need
    a gradient.
    """
    hidden = sum(workload.widths)
    row = _LABEL_BYTES + 2 * workload.in_features + 2 * hidden + 4 * workload.classes
    return workload.batch * row + 2 * _later_weights(workload) + 4


def _later_weights(workload: Workload) -> int:
    """Return the number of elements in the weights of all layers except the first layer."""
    return sum(a * b for a, b in pairwise((*workload.widths, workload.classes)))


def break_even_batch(workload: Workload) -> int:
    """Return the smallest batch at which autocast saves fewer bytes than float32."""
    gained = 2 * workload.in_features + 2 * sum(workload.widths)
    return 2 * _later_weights(workload) // gained + 1

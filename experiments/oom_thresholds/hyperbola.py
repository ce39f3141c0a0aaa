"""Collects the thresholds in a data frame, and fits a hyperbola to the thresholds.

A training step needs k0 + k1·depth + k2·batch + k3·depth·batch bytes. The depths and batches that
just fill a budget are on the hyperbola (depth + a)(batch + b) = c. The constants a = k2/k3 and b =
k1/k3 do not depend on the budget, and c grows with the budget. In inference, each layer's output is
freed, so k3 is 0 and the points are on a straight line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.fits import Vector
from harness.schema.threshold import Threshold

_ROUNDS = 20
"""Number of reweighting iterations; the weights converge after about five."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The hyperbola (depth + a)(batch + b) = c, fitted to thresholds, with its largest error."""

    a: float
    b: float
    c: float
    worst: float
    """Largest relative difference between a threshold and the hyperbola's batch."""

    def batch(self, depth: float) -> float:
        """Return the hyperbola's batch at ``depth``."""
        return self.c / (depth + self.a) - self.b


def fit_frontier(depths: Sequence[int], batches: Sequence[int]) -> Frontier:
    """Fit the hyperbola to thresholds (one batch per depth), by minimizing relative errors.

    The equation depth·batch = (c - a·b) - a·batch - b·depth is linear in its three coefficients. An
    error e of the equation corresponds to an error e / (depth + a) of the batch. Each iteration
    weights the equations with the value of a from the previous iteration.

    Raises:
        AnalysisError: there are fewer than four depths, or no hyperbola fits the thresholds.

    """
    d, n = (np.asarray(values, dtype=np.float64) for values in (depths, batches))
    if len(set(depths)) < 4:
        raise AnalysisError("a frontier needs thresholds at 4 depths or more")
    a, b, c = _hyperbola(d, n)
    errors = (c / (d + a) - b) / n - 1
    return Frontier(a=a, b=b, c=c, worst=float(np.abs(errors).max()))


def _hyperbola(d: Vector, n: Vector) -> tuple[float, float, float]:
    """Return a, b and c of the hyperbola."""
    a = 1.0
    solution: Vector = np.zeros(3)
    for _ in range(_ROUNDS):
        weight = 1 / ((d + a) * n)
        design = np.column_stack([np.ones_like(d), -n, -d])
        size = np.abs(design * weight[:, None]).max(axis=0)
        solution = (
            np.linalg.lstsq(design * weight[:, None] / size, d * n * weight, rcond=None)[0] / size
        )
        a = float(solution[1])
        if not np.isfinite(a) or a <= -float(d.min()):
            raise AnalysisError("no hyperbola goes through the thresholds")
    rest, _, b = (float(part) for part in solution)
    return a, b, rest + a * b


def as_frame(thresholds: Sequence[Threshold]) -> pd.DataFrame:
    """Return one row per threshold with workload, budget, predictions, result and error.

    The error is (``predicted`` - ``largest_fit``) / ``largest_fit``, in percent.
    """
    rows = [_row(threshold) for threshold in thresholds]
    return pd.DataFrame(rows).convert_dtypes()


def _row(result: Threshold) -> dict[str, Any]:
    return {
        "series": series(result),
        "depth": result.workload.depth,
        "budget_bytes": result.budget_bytes,
        "kind": result.kind,
        "outcome": result.outcome.value,
        "live_bytes_predict": result.live_bytes_predict,
        "predicted": result.predicted,
        "largest_fit": result.largest_fit,
        "smallest_fail": result.smallest_fail,
        "band": len(result.band),
        "confirmed": result.confirmed,
        "probes": len(result.probes),
        "error_percent": _error(result.predicted, result.largest_fit),
    }


def series(result: Threshold) -> str:
    """Return the kind of step, such as ``training, sgd``, ``training, adam`` or ``inference``."""
    if result.workload.mode == "inference":
        return "inference"
    return f"training, {result.workload.optimizer}"


def _error(predicted: int | None, seen: int | None) -> float | None:
    if predicted is None or not seen:
        return None
    return 100 * (predicted / seen - 1)

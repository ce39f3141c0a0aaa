"""The geometric mean of ratios with its interval."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis import AnalysisError
from harness.analysis.fits import CONFIDENCE, Values


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio with its interval."""

    estimate: float
    low: float
    high: float
    blocks: int
    """Observations, each of which gave one ratio."""

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"


def geometric_ratio(ratios: Values, confidence: float = CONFIDENCE) -> Ratio:
    """Return the geometric mean of ``ratios`` with Student's t interval of their logarithms."""
    values = np.asarray(ratios, dtype=np.float64)
    if len(values) < 3 or not bool((values > 0).all()):
        raise AnalysisError(f"{len(values)} blocks: an interval needs three ratios above zero")
    logs = np.log(values)
    middle = float(logs.mean())
    error = float(logs.std(ddof=1)) / len(logs) ** 0.5
    reach = float(stats.t.ppf(0.5 + confidence / 2, len(logs) - 1)) * error
    low, estimate, high = (float(np.exp(middle + part)) for part in (-reach, 0.0, reach))
    return Ratio(estimate=estimate, low=low, high=high, blocks=len(values))

"""Power laws: the exponent in each variable, and whether it is 1 for practical purposes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis import AnalysisError
from harness.analysis.fits import CONFIDENCE, Values, fit

MARGIN = 0.05
"""An exponent within 1 +- this counts as proportional."""


@dataclass(frozen=True, kw_only=True)
class Exponent:
    """``value ~ variable ** estimate``, the other variables held, with its HC3 interval."""

    variable: str
    estimate: float
    error: float
    low: float
    high: float
    cells: int
    p_equivalent: float
    """Two one-sided tests that the exponent lies outside 1 +- MARGIN (Schuirmann, 1987)."""

    @property
    def is_one(self) -> bool:
        """True if a test at the 5% level shows the exponent within 1 +- MARGIN."""
        return self.p_equivalent < 1 - CONFIDENCE

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def exponents(variables: Mapping[str, Values], values: Values) -> dict[str, Exponent]:
    """Fit ``log value`` on the logs of ``variables`` and return each exponent.

    Rows without a logarithm are left out. For metrics without noise an interval says how far the
    points lie from any power law, not how far a repetition would vary.
    """
    y = np.asarray(values, dtype=np.float64)
    kept = y > 0
    count, wanted = int(kept.sum()), len(variables) + 2
    if count < wanted:
        raise AnalysisError(f"{count} positive cells; exponents need at least {wanted}")
    logs = {name: np.log(np.asarray(column)[kept]) for name, column in variables.items()}
    law = fit({"constant": np.ones(count), **logs}, np.log(y[kept]))
    results = {}
    for name in variables:
        part = law.coefficient(name)
        if part.error is None or part.low is None or part.high is None:
            raise AnalysisError(f"{name}: one cell alone decides its exponent")
        results[name] = Exponent(
            variable=name,
            estimate=part.estimate,
            error=part.error,
            low=part.low,
            high=part.high,
            cells=count,
            p_equivalent=equivalence(part.estimate, part.error, law.left_over),
        )
    return results


def equivalence(estimate: float, error: float, left_over: int) -> float:
    """Return the p-value of "further than MARGIN from 1": small means equivalent to 1.

    ``error`` is the standard error, ``left_over`` the degrees of freedom of the residuals.
    """
    distance = MARGIN - abs(estimate - 1)
    if error <= 1e-12:
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, left_over))

"""Fits linear models and power laws, with confidence intervals that allow for uneven noise.

The intervals use HC3 standard errors (MacKinnon & White, 1985, Journal of Econometrics 29:305),
which do not assume equal noise in all observations. Power laws are fitted to logarithms, because
sizes span four orders of magnitude and noise grows with size. In tests/analysis, tests check that
95% intervals contain the true value in 95% of samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS

from harness.analysis import AnalysisError

Vector = NDArray[np.float64]
Values = Sequence[float] | NDArray[np.float64] | NDArray[np.int64]

CONFIDENCE = 0.95
DECISIVE = 1e-9
"""A fit has intervals only if every leverage is below 1 by more than this number."""


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """Fitted coefficient of a term; ``low`` and ``high`` are None if it has no interval."""

    term: str
    estimate: float
    error: float | None
    """HC3 standard error."""
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedModel:
    """A least-squares fit of values as a sum of named terms with coefficients."""

    terms: tuple[str, ...]
    coefficients: tuple[Coefficient, ...]
    fitted: Vector
    r2: float | None
    """Coefficient of determination, R²; None if all values are equal."""

    def coefficient(self, term: str) -> Coefficient:
        """Return the coefficient of ``term``."""
        return self.coefficients[self.terms.index(term)]


def fit(columns: Mapping[str, Values], values: Values) -> FittedModel:
    """Fit ``values`` as a linear combination of ``columns``; a column of ones adds a constant."""
    y = np.asarray(values, dtype=np.float64)
    raw = np.column_stack([np.asarray(column, dtype=np.float64) for column in columns.values()])
    size = np.abs(raw).max(axis=0, initial=0.0)
    if len(y) < len(size) or not size.all() or np.linalg.matrix_rank(raw / size) < len(size):
        wanted = ", ".join(columns)
        raise AnalysisError(f"{len(y)} cells cannot distinguish these terms: {wanted}")
    design = raw / size
    result = OLS(y, design).fit()
    leverage = result.get_influence().hat_matrix_diag
    judged = len(y) > len(size) and float(leverage.max()) < 1 - DECISIVE
    estimates = np.asarray(result.params) / size
    errors = reaches = np.full(len(size), np.nan)
    if judged:
        errors = np.sqrt(np.maximum(np.diag(result.cov_HC3), 0.0)) / size
        reaches = float(stats.t.ppf(0.5 + CONFIDENCE / 2, result.df_resid)) * errors
    return FittedModel(
        terms=tuple(columns),
        coefficients=tuple(
            Coefficient(
                term=term,
                estimate=float(estimate),
                error=float(error) if judged else None,
                low=float(estimate - reach) if judged else None,
                high=float(estimate + reach) if judged else None,
            )
            for term, estimate, error, reach in zip(
                columns, estimates, errors, reaches, strict=True
            )
        ),
        fitted=np.asarray(result.fittedvalues, dtype=np.float64),
        r2=None if np.ptp(y) == 0 else float(result.rsquared),
    )


@dataclass(frozen=True, kw_only=True)
class Exponent:
    """Exponent of a variable in a power law, with its HC3 interval."""

    variable: str
    estimate: float
    error: float
    low: float
    high: float
    cells: int


def exponents(variables: Mapping[str, Values], values: Values) -> dict[str, Exponent]:
    """Fit a power law of ``variables`` to ``values``, and return the exponent of each variable.

    Rows whose value is not positive are left out. For exact metrics, a wide interval means that the
    values do not follow a power law.
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
        )
    return results

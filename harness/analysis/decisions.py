"""Decides claims about noisy numbers; a claim stays open if noise could change its verdict.

Each claim compares a number with a limit. The claim is supported or refuted only if the number's
whole 99% interval is on one side of the limit. Any other claim stays open, with an estimate of how
many repeats would decide the claim.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis import AnalysisError
from harness.analysis.fits import Values
from harness.schema.findings import Judged, Verdict

CONFIDENCE = 0.99
ROUGHLY = 0.10
"""Largest relative difference between two numbers that a claim calls "roughly equal"."""
MOST_REPEATS = 10_000
"""Largest number of repeats that a text states; above it, the text says "more than 10,000"."""


@dataclass(frozen=True, kw_only=True)
class Decided(Judged):
    """A verdict; ``repeats`` estimates how many repeats would decide a claim that is open."""

    repeats: int | None = None

    def remark(self, unit: str) -> str:
        """Return a sentence that explains why the claim is open; empty if the claim is decided.

        >>> Decided(verdict=Verdict.OPEN, repeats=40).remark("blocks")
        ' The 99% interval contains the limit; about 40 blocks would decide.'
        """
        if self.verdict is not Verdict.OPEN:
            return ""
        if self.repeats is None:
            return f" More {unit} are needed before the claim can be decided."
        return f" The 99% interval contains the limit; {self.reason(unit)}."

    def reason(self, unit: str) -> str:
        """Return the reason why the claim is open, as a phrase; empty if the claim is decided.

        >>> Decided(verdict=Verdict.OPEN, repeats=40).reason("blocks")
        'about 40 blocks would decide'
        >>> Decided(verdict=Verdict.OPEN, repeats=12_000).reason("blocks")
        'more than 10,000 blocks would decide'
        """
        if self.verdict is not Verdict.OPEN:
            return ""
        if self.repeats is None:
            return f"more {unit} are needed"
        if self.repeats > MOST_REPEATS:
            return f"more than {MOST_REPEATS:,} {unit} would decide"
        return f"about {self.repeats:,} {unit} would decide"


def is_below(limit: float, *, low: float, high: float, repeats: int) -> Decided:
    """Decide whether a number is below ``limit``, by its interval from ``repeats`` observations.

    >>> is_below(2.0, low=0.9, high=1.1, repeats=3).verdict.name
    'SUPPORTED'
    >>> is_below(2.0, low=1.5, high=2.25, repeats=9).repeats  # it is open
    81
    """
    if high < limit:
        return Decided(verdict=Verdict.SUPPORTED)
    if low > limit:
        return Decided(verdict=Verdict.REFUTED)
    return Decided(verdict=Verdict.OPEN, repeats=_repeats(limit, low, high, repeats))


def is_above(limit: float, *, low: float, high: float, repeats: int) -> Decided:
    """Decide whether a number is above ``limit``; the arguments are those of ``is_below``."""
    return is_below(-limit, low=-high, high=-low, repeats=repeats)


def is_within(least: float, most: float, *, low: float, high: float, repeats: int) -> Decided:
    """Decide whether a number is between ``least`` and ``most``, given the number's interval.

    >>> is_within(1.2, 1.5, low=1.6, high=1.7, repeats=5).verdict.name
    'REFUTED'
    """
    if least < low and high < most:
        return Decided(verdict=Verdict.SUPPORTED)
    if high < least or most < low:
        return Decided(verdict=Verdict.REFUTED)
    nearest = min((least, most), key=lambda limit: abs(limit - (low + high) / 2))
    return Decided(verdict=Verdict.OPEN, repeats=_repeats(nearest, low, high, repeats))


def is_roughly(*, low: float, high: float | None = None, repeats: int = 1) -> Decided:
    """Decide whether two numbers are roughly equal, given the interval of their ratio.

    If the ratio is known exactly, pass the ratio as ``low`` and omit ``high``.

    >>> is_roughly(low=1.05).verdict.name, is_roughly(low=0.9).verdict.name
    ('SUPPORTED', 'SUPPORTED')
    >>> is_roughly(low=1.2, high=1.4).verdict.name, is_roughly(low=1.0, high=1.2).verdict.name
    ('REFUTED', 'OPEN')
    """
    if low <= 0:
        return Decided(verdict=Verdict.OPEN if (high or low) > 1 - ROUGHLY else Verdict.REFUTED)
    slack = 1e-12  # a ratio of exactly 10% away is roughly the other
    ends = (1 - ROUGHLY - slack, 1 + ROUGHLY + slack, low, low if high is None else high)
    least, most, low, high = (math.log(end) for end in ends)
    return is_within(least, most, low=low, high=high, repeats=repeats)


def exactly(holds: bool) -> Decided:
    """Return the decision "supported" if ``holds`` is True, otherwise "refuted".

    >>> exactly(False).verdict.name
    'REFUTED'
    """
    return Decided(verdict=Verdict.SUPPORTED if holds else Verdict.REFUTED)


def interval(
    estimate: float, error: float, left_over: float, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return Student's t interval around an estimate with the standard error ``error``.

    ``left_over`` is the number of residual degrees of freedom.
    """
    reach = error * float(stats.t.ppf(0.5 + confidence / 2, left_over))
    return estimate - reach, estimate + reach


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio with its confidence interval."""

    estimate: float
    low: float
    high: float
    blocks: int
    """Number of observations; for a ratio of two samples, the size of the smaller sample."""

    def __str__(self) -> str:
        return f"{self.estimate:.3f} ({self.low:.3f} to {self.high:.3f})"


def geometric_ratio(ratios: Values, confidence: float = 0.95) -> Ratio:
    """Return the geometric mean of ``ratios``, with a t interval from their logarithms."""
    values = np.asarray(ratios, dtype=np.float64)
    if len(values) < 3 or not bool((values > 0).all()):
        raise AnalysisError(f"{len(values)} blocks: an interval needs three ratios above zero")
    logs = np.log(values)
    middle = float(logs.mean())
    error = float(logs.std(ddof=1)) / len(logs) ** 0.5
    ends = interval(middle, error, len(logs) - 1, confidence)
    estimate, low, high = (float(np.exp(part)) for part in (middle, *ends))
    return Ratio(estimate=estimate, low=low, high=high, blocks=len(values))


def ratio_of_means(over: Values, under: Values, confidence: float = CONFIDENCE) -> Ratio:
    """Return the ratio of two samples' geometric means, with Welch's interval from logarithms.

    The two samples may differ in size and in variance.
    """
    first, second = (np.log(np.asarray(values, dtype=np.float64)) for values in (over, under))
    if min(len(first), len(second)) < 2:
        raise AnalysisError("an interval needs two numbers on each side")
    parts = [float(each.var(ddof=1)) / len(each) for each in (first, second)]
    weights = (part**2 / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True))
    left_over = sum(parts) ** 2 / max(sum(weights), 1e-300)
    middle = float(first.mean() - second.mean())
    error = math.sqrt(sum(parts))
    ends = interval(middle, error, max(left_over, 1.0), confidence) if error else (middle, middle)
    estimate, low, high = (math.exp(part) for part in (middle, *ends))
    return Ratio(estimate=estimate, low=low, high=high, blocks=min(len(first), len(second)))


def _repeats(limit: float, low: float, high: float, repeats: int) -> int:
    """Estimate the number of repeats at which the interval would not contain the limit.

    The estimate assumes that the middle of the interval stays the same, and that the width falls
    with the square root of the number of repeats.
    """
    distance = abs(limit - (low + high) / 2)
    if not distance or not math.isfinite(high - low):
        return MOST_REPEATS + 1
    needed: float = repeats * ((high - low) / 2 / distance) ** 2
    return math.ceil(min(needed, MOST_REPEATS + 1))

"""Searches for the largest value that fits, using computed results without noise.

``harness.thresholds.search`` does the same with real runs, whose results may be noisy.
"""

from collections.abc import Callable
from functools import cache

HIGHEST = 1 << 24
"""Largest batch that is tried for a user's own step."""
_PART = 32
"""Inverse of the second step of a search, as a part of its guess."""
_MOST_GUESSES = 12
"""Maximum number of linear extrapolations before the bisection."""


def largest_value(
    fits: Callable[[int], bool], *, low: int, high: int, guess: int | None = None
) -> int | None:
    """Return a value from ``low`` to ``high`` that fits, while the next value does not fit.

    The search moves away from ``guess`` by 1, then by about 3% and in doubling steps, until one
    value fits and another does not; then it bisects between them. The result is None if ``low``
    does not fit, and ``high`` if ``high`` fits.
    """
    if not fits(low):
        return None
    fitting, failing, step = low, high + 1, 1
    at = min(max(guess or low, low), high)
    if at > low and fits(at):
        fitting = at
    elif at > low:
        failing = at
        while failing - step > low and not fits(failing - step):
            failing, step = failing - step, max(2 * step, at // _PART)
        fitting = max(low, failing - step)
    if failing > high:
        while fitting + step <= high and fits(fitting + step):
            fitting, step = fitting + step, max(2 * step, at // _PART)
        failing = min(failing, fitting + step)
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting


def largest_within(need: Callable[[int], int], budget: int, *, low: int, high: int) -> int | None:
    """Return the largest value from ``low`` to ``high`` whose ``need`` is at most ``budget``.

    ``need`` must not decrease when the value increases. A step's memory is piecewise linear in
    batch and depth, and quadratic in width. So a search along lines through the last two points
    needs only a few calls of ``need``.
    """
    known = cache(need)
    if known(low) > budget:
        return None
    before, at = low, min(low + 1, high)
    for _ in range(_MOST_GUESSES):
        after = line_meets(budget, (before, known(before)), (at, known(at)))
        after = min(max(after, low), high)
        if after in (before, at):
            break
        before, at = at, after
    return largest_value(lambda value: known(value) <= budget, low=low, high=high, guess=at)


def line_meets(budget: int, before: tuple[int, int], point: tuple[int, int]) -> int:
    """Return the value at which a line through two points (value, need) reaches ``budget``.

    If the line does not rise, return twice the last value.
    """
    run, rise = point[0] - before[0], point[1] - before[1]
    if run * rise <= 0:
        return 2 * point[0]
    return point[0] + (budget - point[1]) * run // rise

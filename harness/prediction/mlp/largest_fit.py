"""Does a workload fit in a budget, and how far could it grow: solved on the predicted trace."""

from collections.abc import Callable

from harness.prediction.mlp.cpu_trace import predict_trace
from harness.schema.workload import MAX_DEPTH, MAX_SIZE, Workload

_LIMITS = {"batch": MAX_SIZE, "width": MAX_SIZE, "depth": MAX_DEPTH}

AXES = tuple(_LIMITS)

_PATIENCE = 12
"""Evaluations after which the bracket is halved instead of trusting the slope."""
_TRUST = 48
"""Evaluations after which the slope is trusted no more: the need ends at a cliff."""


def needed_bytes(workload: Workload) -> int:
    """Return the most bytes alive at any moment of the build and two steps (one in inference).

    Raises:
        NotFollowedError: the workload's events cannot be told exactly.

    """
    return max(predict_trace(workload).live_bytes)


def solve(workload: Workload, budget_bytes: int, axis: str) -> int | None:
    """Return the largest ``axis`` ("batch", "width" or "depth") that fits in the budget.

    None where not even the smallest does. All else stays as in ``workload``; a width gives
    equal layers.

    Raises:
        ValueError: no such axis.
        NotFollowedError: the workload's events cannot be told exactly.

    """
    if axis not in AXES:
        raise ValueError(f"axis: {axis!r}: one of {', '.join(AXES)}")
    low = {"batch": workload.least_batch, "depth": max(1, workload.checkpoint)}.get(axis, 1)
    return largest(
        lambda value: needed_bytes(workload.replace(**{axis: value})),
        budget_bytes,
        low=low,
        high=_LIMITS[axis],
    )


def largest(need: Callable[[int], int], budget: int, *, low: int, high: int) -> int | None:
    """Return the largest whole number from ``low`` to ``high`` whose need is within ``budget``.

    None where ``low``'s is not. ``need`` must never fall. It is piecewise linear in the batch
    and in the depth and quadratic in the width, so a line through the last two points lands
    on the answer or next to it, and the bracket then closes from both sides.
    """
    before = (low, need(low))
    if before[1] > budget:
        return None
    if low == high:
        return low
    fits, fails = low, high + 1
    point = (low + 1, need(low + 1))
    for count in range(2, 200):
        if point[1] <= budget:
            fits = max(fits, point[0])
        else:
            fails = min(fails, point[0])
        if fails - fits == 1:
            return fits
        sloped = count < _TRUST and count % _PATIENCE
        guess = _extrapolate(before, point, budget) if sloped else (fits + fails) // 2
        guess = min(max(guess, fits + 1), fails - 1)
        before, point = point, (guess, need(guess))
    raise AssertionError("the bracket is halved often enough to close")


def _extrapolate(before: tuple[int, int], point: tuple[int, int], budget: int) -> int:
    """Return where the line through two points meets ``budget``; twice as far where it is flat."""
    run, rise = point[0] - before[0], point[1] - before[1]
    if rise == 0 or run == 0:
        return 2 * point[0]
    return point[0] + (budget - point[1]) * run // rise

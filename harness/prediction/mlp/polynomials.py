"""Metrics of a workload as polynomials in depth, width and batch, read off the metrics alone.

With equal hidden layers, every closed form of ``formula`` is a polynomial, of degree 1 in the
depth and the batch and 2 in the width; so are the live bytes after each event of the trace.
A polynomial of known degree is decided by its values at a few points, in whole numbers. So
nothing is written twice: where a formula changes, its polynomial changes with it, and where one
stops being a polynomial, a further point says so.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.prediction.mlp.cpu_trace import predict_trace
from harness.schema.workload import Workload

POWERS = tuple(itertools.product(range(2), range(3), range(2)))
"""Powers of depth, width and batch, in the order of a polynomial's coefficients."""

_WIDTHS, _BATCHES = (5, 6, 7), (7, 8)
"""Neighbours; small, and different from each other and from the classes."""

_SINGLE_DEPTHS = (1, 2)
_FAMILY_DEPTHS = (3, 4, 5, 6)
"""From three layers on there is a first, an inner and a last one: more add nothing new."""

_FURTHER = ((1, 33, 65), (2, 8, 256), (9, 40, 24), (23, 128, 1))
"""Depth, width and batch of further points, of other sizes and proportions."""

Array = NDArray[np.int64]


class NotPolynomialError(ArithmeticError):
    """A metric is not the polynomial that its values at a few points decide."""


@dataclass(frozen=True, kw_only=True)
class Polynomial:
    """``sum(c * depth**i * width**j * batch**k)`` over ``coefficients`` and ``POWERS``, in bytes.

    It holds from ``first_depth`` to ``last_depth`` layers (None: however many).
    """

    coefficients: tuple[int, ...]
    first_depth: int = 1
    last_depth: int | None = None

    def __call__(self, depth: int, width: int, batch: int) -> int:
        """Return the bytes of ``depth`` layers of ``width`` units and ``batch`` examples."""
        terms = zip(self.coefficients, POWERS, strict=True)
        return sum(c * depth**i * width**j * batch**k for c, (i, j, k) in terms)

    def holds(self, depth: int) -> bool:
        """Say whether the polynomial describes networks of ``depth`` layers."""
        return self.first_depth <= depth and (self.last_depth is None or depth <= self.last_depth)


def closed_form(metric: Callable[[Workload], int], base: Workload) -> Polynomial:
    """Return ``metric`` of ``base``, with any other depth, width and batch, as a polynomial.

    Raises:
        NotPolynomialError: it is none of these degrees.

    """
    values = [
        [
            [metric(base.replace(depth=depth, width=width, batch=batch)) for batch in _BATCHES]
            for width in _WIDTHS
        ]
        for depth in _SINGLE_DEPTHS
    ]
    flat, steep = (_in_width_and_batch(np.array([part]))[0] for part in values)
    found = _in_depth(flat, steep - flat, _SINGLE_DEPTHS[0])
    _confirm(metric, base, (found,))
    return found


def needs(base: Workload) -> tuple[Polynomial, ...]:
    """Return polynomials whose largest is the most bytes alive at once, over build and steps.

    Of those that hold at a depth (``holds``) the largest is ``budget.needed_bytes`` of
    ``base`` with that depth, any width and any batch. Each stands for one moment of the trace.

    Raises:
        UnsupportedWorkloadError: the workload's events cannot be predicted exactly.
        NotPolynomialError: the moments do not follow one rule from three layers on.

    """
    found = [
        Polynomial(
            coefficients=_in_depth(row, np.zeros_like(row), 0).coefficients,
            first_depth=depth,
            last_depth=depth,
        )
        for depth in _SINGLE_DEPTHS
        for row in _moments(base, depth)
    ]
    found += _families(base)
    _confirm(lambda workload: max(predict_trace(workload).live_bytes), base, found)
    return tuple(found)


def _families(base: Workload) -> Iterator[Polynomial]:
    """Yield the moments that come back at every depth, with what each layer more adds to them."""
    first, second, *later = (_moments(base, depth) for depth in _FAMILY_DEPTHS)
    present = [{tuple(row) for row in rows.tolist()} for rows in later]
    for one, other in itertools.product(first, second):
        step = other - one
        expected = [(one + count * step).tolist() for count in range(2, 2 + len(present))]
        if all(tuple(row) in rows for row, rows in zip(expected, present, strict=True)):
            found = _in_depth(one, step, _FAMILY_DEPTHS[0])
            yield Polynomial(coefficients=found.coefficients, first_depth=_FAMILY_DEPTHS[0])


def _moments(base: Workload, depth: int) -> Array:
    """Return the moments at ``depth`` that can be the largest, (moments, 6) coefficients."""
    values = [
        [
            predict_trace(base.replace(depth=depth, width=width, batch=batch)).live_bytes
            for batch in _BATCHES
        ]
        for width in _WIDTHS
    ]
    rows = _in_width_and_batch(np.moveaxis(np.array(values, dtype=np.int64), 2, 0))
    return _undominated(np.unique(rows, axis=0))


def _in_width_and_batch(values: Array) -> Array:
    """Return coefficients (n, 6), ordered as in ``POWERS``, from values (n, widths, batches)."""
    start = _WIDTHS[0]
    low, middle, high = np.moveaxis(values, 1, 0)
    square = (high - 2 * middle + low) // 2
    slope = middle - low - square * (2 * start + 1)
    by_width = np.stack([low - slope * start - square * start**2, slope, square], axis=1)
    by_batch = by_width[:, :, 1] - by_width[:, :, 0]
    constant = by_width[:, :, 0] - by_batch * _BATCHES[0]
    return np.stack([constant, by_batch], axis=2).reshape(len(values), -1)


def _in_depth(row: Array, step: Array, depth: int) -> Polynomial:
    """Return the polynomial that is ``row`` at ``depth`` and grows by ``step`` with each layer."""
    parts = [*(row - depth * step).tolist(), *step.tolist()]
    return Polynomial(coefficients=tuple(int(part) for part in parts))


def _undominated(rows: Array) -> Array:
    """Return ``rows`` (n, 6) without those that another one is never below.

    Width and batch are at least 1: where no coefficient in powers of (width - 1) and
    (batch - 1) is larger, no value is.
    """
    width = rows.reshape(-1, 3, 2)
    shifted = np.stack([width.sum(axis=1), width[:, 1] + 2 * width[:, 2], width[:, 2]], axis=1)
    at_one = np.stack([shifted.sum(axis=2), shifted[:, :, 1]], axis=2).reshape(-1, 6)
    reached = (at_one[:, None, :] <= at_one[None, :, :]).all(axis=2)
    best: Array = rows[reached.sum(axis=1) == 1]
    return best


def _confirm(
    metric: Callable[[Workload], int], base: Workload, found: Iterable[Polynomial]
) -> None:
    """Compare the largest of ``found`` with ``metric`` at further points.

    Raises:
        NotPolynomialError: they differ.

    """
    pieces = tuple(found)
    for depth, width, batch in _FURTHER:
        expected = metric(base.replace(depth=depth, width=width, batch=batch))
        largest = max(
            (part(depth, width, batch) for part in pieces if part.holds(depth)), default=0
        )
        if largest != expected:
            place = f"depth {depth}, width {width}, batch {batch}"
            raise NotPolynomialError(f"{base}: {largest} instead of {expected} bytes at {place}")

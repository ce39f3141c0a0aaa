"""Live bytes of a workload as polynomials in depth, width and batch, read off its traces.

With equal hidden layers, the live bytes after each event of the trace are a polynomial, of degree 1
in the depth and the batch and 2 in the width. A polynomial of known degree is decided by its values
at a few points, in whole numbers. So nothing is written twice: where the trace changes, its
polynomials change with it, and where they stop being polynomials, a further point says so.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.prediction.mlp.cpu_trace import predict_trace
from harness.schema.events import CATEGORIES
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

_ROWS = {name: row for row, name in enumerate(CATEGORIES, 1)}

Array = NDArray[np.int64]


class NotPolynomialError(ArithmeticError):
    """The live bytes are not the polynomials that their values at a few points decide."""


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


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The bytes alive at one moment of the trace: all of them, and each category's."""

    total: Polynomial
    parts: Mapping[str, Polynomial]
    """By category; they add up to the total."""


def moments(base: Workload) -> tuple[Moment, ...]:
    """Return the moments of the trace of which one is the peak.

    At each depth the peak of ``base``, over build and steps and for any width and batch, is the
    largest of the totals that are valid at that depth (``holds``).

    Raises:
        UnsupportedWorkloadError: the workload's events cannot be predicted exactly.
        NotPolynomialError: the moments do not follow one rule from three layers on.
    """
    found = [
        _moment(row, np.zeros_like(row), depth, last_depth=depth)
        for depth in _SINGLE_DEPTHS
        for row in _moments(base, depth)
    ]
    found += _families(base)
    _confirm(base, [moment.total for moment in found])
    return tuple(found)


def _moment(row: Array, step: Array, depth: int, last_depth: int | None = None) -> Moment:
    """Return the moment that is ``row`` at ``depth`` and grows by ``step`` with each layer."""
    names = ("total", *CATEGORIES)
    parts = {
        name: Polynomial(
            coefficients=(*(own - depth * more).tolist(), *more.tolist()),
            first_depth=depth,
            last_depth=last_depth,
        )
        for name, own, more in zip(
            names, row.reshape(len(names), -1), step.reshape(len(names), -1), strict=True
        )
    }
    return Moment(total=parts.pop("total"), parts=parts)


def _families(base: Workload) -> Iterator[Moment]:
    """Yield the moments that come back at every depth, with what each layer more adds to them."""
    first, second, *later = (_moments(base, depth) for depth in _FAMILY_DEPTHS)
    present = [{tuple(row) for row in rows.tolist()} for rows in later]
    for one, other in itertools.product(first, second):
        step = other - one
        expected = [(one + count * step).tolist() for count in range(2, 2 + len(present))]
        if all(tuple(row) in rows for row, rows in zip(expected, present, strict=True)):
            yield _moment(one, step, _FAMILY_DEPTHS[0])


def _moments(base: Workload, depth: int) -> Array:
    """Return the moments at ``depth`` that can be the largest: (moments, 7 * 6) coefficients.

    The first six are of all live bytes, the next of each category.
    """
    values = [
        [_by_category(base.replace(depth=depth, width=width, batch=batch)) for batch in _BATCHES]
        for width in _WIDTHS
    ]
    rows = np.stack(
        [
            _in_width_and_batch(np.moveaxis(part, 2, 0))
            for part in np.moveaxis(np.array(values, dtype=np.int64), 2, 0)
        ],
        axis=1,
    ).reshape(-1, (1 + len(CATEGORIES)) * len(_WIDTHS) * len(_BATCHES))
    totals = rows[:, : len(_WIDTHS) * len(_BATCHES)]
    _, first = np.unique(totals, axis=0, return_index=True)
    rows = rows[np.sort(first)]
    return rows[_undominated(rows[:, : totals.shape[1]])]


def _by_category(workload: Workload) -> Array:
    """Return the live bytes after each event: all, then each category's, (7, events)."""
    events = predict_trace(workload, without_scratch=True).events
    live = np.zeros((1 + len(CATEGORIES), len(events)), dtype=np.int64)
    rows = [_ROWS[event.category] for event in events]
    live[rows, np.arange(len(events))] = [event.size_bytes for event in events]
    live = live.cumsum(axis=1)
    live[0] = live.sum(axis=0)
    return live


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


def _undominated(rows: Array) -> NDArray[np.bool_]:
    """Say which of ``rows`` (n, 6), all different, no other one equals or exceeds everywhere.

    Width and batch are at least 1: where no coefficient in powers of (width - 1) and
    (batch - 1) is larger, no value is.
    """
    width = rows.reshape(-1, 3, 2)
    shifted = np.stack([width.sum(axis=1), width[:, 1] + 2 * width[:, 2], width[:, 2]], axis=1)
    at_one = np.stack([shifted.sum(axis=2), shifted[:, :, 1]], axis=2).reshape(-1, 6)
    reached = (at_one[:, None, :] <= at_one[None, :, :]).all(axis=2)
    best: NDArray[np.bool_] = reached.sum(axis=1) == 1
    return best


def _confirm(base: Workload, found: Sequence[Polynomial]) -> None:
    """Compare the largest of ``found`` with the trace at further points."""
    for depth, width, batch in _FURTHER:
        workload = base.replace(depth=depth, width=width, batch=batch)
        expected = max(predict_trace(workload, without_scratch=True).live_bytes)
        largest = max((part(depth, width, batch) for part in found if part.holds(depth)), default=0)
        if largest != expected:
            place = f"depth {depth}, width {width}, batch {batch}"
            raise NotPolynomialError(f"{base}: {largest} instead of {expected} bytes at {place}")

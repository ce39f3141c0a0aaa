"""Finds a formula that equals every number in a list of whole numbers, if such a formula exists.

An allocator's bytes contain no noise, so a formula that differs from a single value is rejected.
Values are compared in rational arithmetic, without rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MOST_FORMS = 4
"""Largest number of formulas in an ``ExactMaximum``."""

Column = Sequence[int] | Any
"""A sequence or NumPy array of integers, one per row."""


@dataclass(frozen=True, kw_only=True)
class ExactForm:
    """A formula ``value = sum of coefficient * term`` that is exact in ``rows`` rows."""

    coefficients: Mapping[str, Fraction]
    """Coefficient of each term, including zeros."""
    rows: int
    """Number of rows whose value equals the formula."""

    def __str__(self) -> str:
        parts = [
            _amount(value) if term == "constant" else f"{_amount(value)}·{term}"
            for term, value in list(self.coefficients.items())[::-1]
            if value
        ]
        return " + ".join(parts).replace("+ -", "- ") or "0"


def _amount(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{value}"


def exact_form(columns: Mapping[str, Column], values: Column) -> ExactForm | None:
    """Return the linear formula of ``columns`` that equals all ``values``, or None.

    ``columns`` maps each term to integers, one per row. The result is None if the rows do not
    determine the coefficients, or if no row is left to check the coefficients.
    """
    rows, targets = _exactly(columns, values)
    solution = _solve(rows, targets) if len(rows) > len(columns) else None
    if solution is None or _sums(rows, solution) != targets:
        return None
    return ExactForm(coefficients=dict(zip(columns, solution, strict=True)), rows=len(rows))


def _exactly(columns: Mapping[str, Column], values: Column) -> tuple[list[list[int]], list[int]]:
    """Return the rows of ``columns`` and the values as Python integers."""
    rows = [[int(column[at]) for column in columns.values()] for at in range(len(values))]
    return rows, [int(value) for value in values]


def _sums(rows: Sequence[Sequence[int]], solution: Sequence[Fraction]) -> list[Fraction]:
    return [
        sum((part * factor for part, factor in zip(row, solution, strict=True)), Fraction(0))
        for row in rows
    ]


def _solve(rows: Sequence[Sequence[int]], values: Sequence[int]) -> list[Fraction] | None:
    """Solve the equations of the first independent rows; None if there are too few such rows."""
    width = len(rows[0]) if rows else 0
    reduced: dict[int, list[Fraction]] = {}
    for row, value in zip(rows, values, strict=True):
        vector = [Fraction(part) for part in (*row, value)]
        for pivot, other in reduced.items():
            factor = vector[pivot]
            if factor:
                vector = [a - factor * b for a, b in zip(vector, other, strict=True)]
        pivot = next((at for at in range(width) if vector[at]), width)
        if pivot == width:
            continue
        vector = [part / vector[pivot] for part in vector]
        for at, other in reduced.items():
            factor = other[pivot]
            if factor:
                reduced[at] = [a - factor * b for a, b in zip(other, vector, strict=True)]
        reduced[pivot] = vector
        if len(reduced) == width:
            return [reduced[at][width] for at in range(width)]
    return None  # also where there are no rows at all: a square of cells that all failed


@dataclass(frozen=True, kw_only=True)
class ExactMaximum:
    """A maximum of several formulas, which equals the value in ``rows`` of ``total`` rows.

    If no formula equals the value of a row, all formulas are below this value. A memory peak is a
    maximum of formulas, because each moment of a step has its own formula.
    """

    forms: tuple[ExactForm, ...]
    """Formulas; a formula's ``rows`` leaves out rows in which an earlier formula is exact."""
    rows: int
    total: int


def exact_maximum(
    columns: Mapping[str, Column],
    values: Column,
    neighbours: Sequence[Sequence[int]],
) -> ExactMaximum | None:
    """Find up to MOST_FORMS formulas of ``columns`` whose maximum equals the ``values``.

    Each entry of ``neighbours`` is a list of row indices, and a formula is computed from these
    rows. A formula is accepted if it never exceeds a value and is exact in enough new rows, i.e. at
    least two more rows than it has coefficients. The result is None if no formula is accepted.
    """
    rows, targets = _exactly(columns, values)
    proposed = _proposals(rows, targets, neighbours)
    left = set(range(len(rows)))
    forms: list[ExactForm] = []
    while proposed and len(forms) < MOST_FORMS:
        solution, given = max(proposed, key=lambda one: len(one[1] & left))
        fresh = given & left
        if len(fresh) < len(columns) + 2:
            break
        form = dict(zip(columns, solution, strict=True))
        forms.append(ExactForm(coefficients=form, rows=len(fresh)))
        left -= fresh
    if not forms:
        return None
    return ExactMaximum(forms=tuple(forms), rows=len(rows) - len(left), total=len(rows))


def _proposals(
    rows: Sequence[Sequence[int]], values: Sequence[int], neighbours: Sequence[Sequence[int]]
) -> list[tuple[tuple[Fraction, ...], set[int]]]:
    """Return each formula that never exceeds a value, with the rows in which it is exact."""
    seen: set[tuple[Fraction, ...]] = set()
    proposals = []
    for group in neighbours:
        solution = tuple(_solve([rows[at] for at in group], [values[at] for at in group]) or ())
        if not solution or solution in seen:
            continue
        seen.add(solution)
        sums = _sums(rows, solution)
        if all(result <= value for result, value in zip(sums, values, strict=True)):
            equal = {at for at, result in enumerate(sums) if result == values[at]}
            proposals.append((solution, equal))
    return proposals

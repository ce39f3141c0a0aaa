"""Finds the exact formula behind whole numbers, where there is one.

Bytes that an allocator hands out carry no noise, so a formula either gives every one of
them or it is wrong. Here equality is checked as equality, in rational arithmetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, kw_only=True)
class ExactForm:
    """``value = sum of coefficient * term`` for every row, with nothing left over."""

    coefficients: Mapping[str, Fraction]
    """By term, zeros included."""
    rows: int
    """How many rows were checked and found equal."""

    def __str__(self) -> str:
        parts = [
            _amount(value) if term == "constant" else f"{_amount(value)}·{term}"
            for term, value in self.coefficients.items()
            if value
        ]
        return " + ".join(parts).replace("+ -", "- ") or "0"


def _amount(value: Fraction) -> str:
    return f"{value.numerator:,}" if value.denominator == 1 else f"{value}"


def exact_form(columns: Mapping[str, Sequence[int]], values: Sequence[int]) -> ExactForm | None:
    """Return the formula in ``columns`` that equals all of ``values``, or None.

    ``columns`` maps each term to its whole numbers, one per row. None also where the rows do
    not determine the coefficients, or leave no row over to check them with.
    """
    terms = list(columns)
    rows = [[int(columns[term][at]) for term in terms] for at in range(len(values))]
    if len(rows) <= len(terms):
        return None
    solution = _solve(rows, [int(value) for value in values])
    if solution is None:
        return None
    for row, value in zip(rows, values, strict=True):
        if sum(part * factor for part, factor in zip(row, solution, strict=True)) != value:
            return None
    return ExactForm(coefficients=dict(zip(terms, solution, strict=True)), rows=len(rows))


def _solve(rows: Sequence[Sequence[int]], values: Sequence[int]) -> list[Fraction] | None:
    """Solve the first rows that are independent of each other; None where too few are."""
    width = len(rows[0])
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
    return None

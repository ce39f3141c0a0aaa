"""Tests whether a quantity grows in proportion to depth x batch.

A quantity is a column of bytes, such as ``saved_bytes`` or ``peak_live_bytes``.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import AnalysisError
from harness.analysis.decisions import ROUGHLY, interval
from harness.analysis.exact import ExactForm, ExactMaximum, exact_form, exact_maximum
from harness.analysis.fits import Values, exponents
from harness.analysis.frame import NOISY, ok_cells

PRODUCT = ("constant", "depth", "batch", "depth·batch")
DEPTHS = tuple(2**power for power in range(7))
BATCHES = tuple(2**power for power in range(4, 13))
"""Depths and batches that a claim about growth covers, even if a run measures only some of them."""
SPREAD = "rss_rise_spread_bytes"
REACH = 3.4
"""Half-width of the 99% t interval of three repeats, divided by the range of the repeats."""
_SLACK = 1e-9

Cell = tuple[int, int]
"""Pair of a depth and a batch."""
Span = tuple[float, float]
"""Smallest and largest possible value of a number; the two are equal for an exact number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Growth:
    """Bytes of a quantity in all cells, sorted by depth and batch, with the fitted formulas."""

    quantity: str
    depth: NDArray[np.int64]
    batch: NDArray[np.int64]
    values: NDArray[np.int64]
    """Bytes of each cell."""
    spans: Mapping[Cell, Span]
    """Bytes at each depth and batch. If all measured bytes equal their predictions, the predicted
    bytes are used; if not, the measured bytes are used. For a noisy quantity, a span is the 99%
    interval of the repeats."""
    exact: ExactForm | None
    """Formula of depth, batch and depth x batch that is exact in every cell, or None."""
    pieces: ExactMaximum | None
    """Formulas whose maximum equals the bytes of many or all cells; None if there are none."""
    derived: tuple[int, int]
    """Number of cells whose measured value equals the prediction, and number of cells with a
    prediction."""

    @property
    def noisy(self) -> bool:
        """True if repeats of a step can give different values of the quantity."""
        return self.quantity in NOISY

    @property
    def whole(self) -> bool:
        """True if a formula, or the maximum of several formulas, is exact in every cell."""
        return self.pieces is not None and self.pieces.rows == self.pieces.total

    @property
    def powers(self) -> str:
        """Text of the fitted power law, with the 99% intervals of the exponents."""
        axes, found = {"depth": self.depth, "batch": self.batch}, []
        if (self.values <= 0).all():
            return "no power law"
        for name, one in exponents(axes, self.values).items():
            _, high = interval(one.estimate, one.error, one.cells - 3)
            found.append(f"{name}^{one.estimate:.2f}±{high - one.estimate:.2f}")
        return " · ".join(found)

    def at(self, depth: Values, batch: Values) -> NDArray[np.float64]:
        """Return the largest value of the formulas; NaN if no maximum is exact in every cell."""
        if not self.whole:
            return np.full(len(np.asarray(depth)), np.nan)
        return np.asarray(self._by_form(depth, batch).max(axis=0), dtype=np.float64)

    def moments(self) -> NDArray[np.int64]:
        """For each cell, return the index of the formula whose value is the maximum."""
        return np.asarray(self._by_form(self.depth, self.batch).argmax(axis=0), dtype=np.int64)

    def _by_form(self, depth: Values, batch: Values) -> NDArray[np.float64]:
        """Return the bytes that each formula gives, as an array of shape (formulas, cells)."""
        columns = term_columns(np.asarray(depth), np.asarray(batch))
        forms = () if self.pieces is None else self.pieces.forms
        sums = [
            sum(float(part) * columns[term] for term, part in form.coefficients.items())
            for form in forms
        ]
        return np.asarray(sums, dtype=np.float64)


def term_columns(
    depth: NDArray[np.int64], batch: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return the values of the terms 1, depth, batch and depth x batch."""
    columns = (np.ones_like(depth), depth, batch, depth * batch)
    return dict(zip(PRODUCT, columns, strict=True))


def growth_of(frame: pd.DataFrame, quantity: str) -> Growth:
    """Fit formulas of depth and batch to the column ``quantity`` of ``frame``."""
    known = ok_cells(frame, quantity).sort_values(["depth", "batch"], ignore_index=True)
    depths, batches = known["depth"].nunique(), known["batch"].nunique()
    if depths < 3 or batches < 3 or len(known) < len(PRODUCT) + 2:
        cells = f"{len(known)} cells with {depths} depths and {batches} batches"
        raise AnalysisError(f"{cells} have it; a test of growth needs 6 cells, 3 depths, 3 batches")
    if known.duplicated(["depth", "batch"]).any():
        raise AnalysisError("several cells have one depth and batch; select one kind")
    depth, batch, values = (
        known[name].to_numpy(dtype=np.int64) for name in ("depth", "batch", quantity)
    )
    columns, measured, law = (
        term_columns(depth, batch),
        spans(known, quantity),
        _law(frame, quantity),
    )
    both = [law[cell] == span for cell, span in measured.items() if cell in law]
    return Growth(
        quantity=quantity,
        depth=depth,
        batch=batch,
        values=values,
        spans=law if sum(both) == len(measured) else measured,
        exact=exact_form(columns, values),
        pieces=exact_maximum(columns, values, _neighbours(depth, batch)),
        derived=(sum(both), len(both)),
    )


def spans(known: pd.DataFrame, quantity: str) -> dict[Cell, Span]:
    """Return the bytes of each cell as (low, high), which are equal for an exact quantity."""
    reach = (
        REACH * known[SPREAD].fillna(0)
        if quantity in NOISY and SPREAD in known
        else 0 * known["depth"]
    )
    rows = zip(known["depth"], known["batch"], known[quantity], reach, strict=True)
    return {
        (int(depth), int(batch)): (float(size - far), float(size + far))
        for depth, batch, size, far in rows
    }


def _law(frame: pd.DataFrame, quantity: str) -> dict[Cell, Span]:
    column = f"predicted.{quantity}"
    return {} if column not in frame else spans(frame.dropna(subset=[column]), column)


def _neighbours(depth: NDArray[np.int64], batch: NDArray[np.int64]) -> list[list[int]]:
    """For each square of neighbouring cells, return the row numbers of its four cells."""
    at = {key: row for row, key in enumerate(zip(depth, batch, strict=True))}
    return [
        [at[corner] for corner in itertools.product(rows, lines) if corner in at]
        for rows in itertools.pairwise(np.unique(depth))
        for lines in itertools.pairwise(np.unique(batch))
    ]


def squares(known: Mapping[Cell, Span]) -> pd.DataFrame:
    """Test proportionality on each square of four known cells.

    A square combines a depth and its double with a batch and its double. The columns ``depth`` and
    ``batch`` contain the smaller depth and the smaller batch. ``by_depth`` and ``by_batch`` are the
    factors by which the bytes grow if the depth or the batch doubles. ``doubles`` is 1 if every
    doubling of depth or batch nearly doubles the bytes. ``rate`` is the largest relative deviation
    of the bytes per layer and example from their median. ``holds`` is 1 if ``doubles`` is 1 and
    ``rate`` is small. ``doubles`` and ``holds`` are 0 if a test fails, and missing if noise leaves
    the test open.
    """
    rows = []
    for depth, batch in sorted(known):
        corners = tuple((depth * a, batch * b) for a, b in ((1, 1), (2, 1), (1, 2), (2, 2)))
        if set(corners) <= set(known):
            rows.append((corners, *_doublings(known, corners)))
    reference = _usual_rate(known, [one[0] for one in rows if one[3] is True] or [list(known)])
    table = []
    for corners, by_depth, by_batch, doubles in rows:
        rate = max(abs(_rate(known, cell) / reference - 1) for cell in corners)
        asked = [
            near(_factor(2 * (reference * cell[0] * cell[1],), known[cell]), 1.0)
            for cell in corners
        ]
        table.append(
            (*corners[0], by_depth, by_batch, rate, _all([doubles]), _all([doubles, *asked]))
        )
    numbers = ["by_depth", "by_batch", "rate", "doubles", "holds"]
    frame = pd.DataFrame(table, columns=["depth", "batch", *numbers])
    kinds = {"depth": "int64", "batch": "int64", **dict.fromkeys(numbers, "float64")}
    return frame.astype(kinds).astype({"holds": "Float64"})


def _doublings(
    known: Mapping[Cell, Span], corners: Sequence[Cell]
) -> tuple[float, float, bool | None]:
    """Return a square's growth by depth and by batch, and whether all growth factors are near 2."""
    asked, middles = [], []
    for a, b in ((0, 1), (0, 2), (2, 3), (1, 3)):
        start, stop = corners[a], corners[b]
        own = _factor(known[start], known[stop])
        asked.append(near(own, 2.0))
        middles.append(sum(own) / 2)
        beyond = (stop[0] * (stop[0] // start[0]), stop[1] * (stop[1] // start[1]))
        if beyond in known:
            asked.append(near(_factor(own, _factor(known[stop], known[beyond])), 1.0))
    return middles[0], middles[1], False if False in asked else None if None in asked else True


def _usual_rate(known: Mapping[Cell, Span], cells_of: Sequence[Sequence[Cell]]) -> float:
    cells = {cell for corners in cells_of for cell in corners}
    return float(np.median([_rate(known, cell) for cell in cells])) or 1.0 if cells else 1.0


def _rate(known: Mapping[Cell, Span], cell: Cell) -> float:
    """Return a cell's bytes per layer and example."""
    return sum(known[cell]) / 2 / (cell[0] * cell[1])


def _factor(before: Span, after: Span) -> Span:
    """Return the span of ``after / before``; (0, 0) or (0, inf) if a span is or may be negative."""
    if before[0] <= 0 or after[0] <= 0:
        return (0.0, 0.0) if before[1] <= 0 or after[1] <= 0 else (0.0, np.inf)
    return after[0] / before[1], after[1] / before[0]


def near(span: Span, wanted: float) -> bool | None:
    """Return True if a span is within 10% of ``wanted``, False if outside, None if undecided."""
    least, most = wanted * (1 - ROUGHLY) - _SLACK, wanted * (1 + ROUGHLY) + _SLACK
    if least <= span[0] and span[1] <= most:
        return True
    return False if span[1] < least or most < span[0] else None


def _all(asked: Sequence[bool | None]) -> float:
    if False in asked:
        return 0.0
    return float("nan") if None in asked else 1.0

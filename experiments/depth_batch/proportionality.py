"""Tests one quantity: whether it grows in proportion to depth x batch.

Everything that the report says about a quantity over a depth x batch grid is computed here
and nowhere else; the reports only show it.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis import AnalysisError
from harness.analysis.exact import ExactForm, ExactMaximum, exact_form, exact_maximum
from harness.analysis.fits import Exponent, Values, exponents
from harness.analysis.frame import NOISY, ok_cells

PRODUCT = ("constant", "depth", "batch", "depth·batch")

DEPTHS = tuple(2**power for power in range(7))
BATCHES = tuple(2**power for power in range(4, 13))
"""The sizes of which every claim about growth speaks, whatever part of them a run measures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One quantity over the cells that have it, ordered by depth and batch."""

    quantity: str
    depth: NDArray[np.int64]
    batch: NDArray[np.int64]
    values: NDArray[np.int64]
    """Bytes."""

    @property
    def noisy(self) -> bool:
        """A repetition may give other values, so that p-values mean something."""
        return self.quantity in NOISY

    def columns(self, terms: tuple[str, ...]) -> dict[str, NDArray[np.int64]]:
        """Return the column of each term of a model."""
        columns = term_columns(self.depth, self.batch)
        return {term: columns[term] for term in terms}


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Growth of a quantity per doubling of one variable, every other variable held.

    No model is fitted: a cell is compared with the next one on the same line of the grid.
    """

    variable: str
    steps: pd.DataFrame
    """One row a pair of neighbours: ``line`` (the held value), ``start``, ``stop``, ``factor``
    (what one doubling multiplies the quantity by)."""

    @property
    def smallest(self) -> float:
        """The smallest factor of one doubling."""
        return float(self.steps["factor"].min())

    @property
    def largest(self) -> float:
        """The largest factor of one doubling."""
        return float(self.steps["factor"].max())


@dataclass(frozen=True, kw_only=True, eq=False)
class Growth:
    """All that the cells say about one quantity."""

    sample: Sample
    exact: ExactForm | None
    """The formula in PRODUCT's terms that gives every cell to the byte, if there is one."""
    pieces: ExactMaximum | None
    """Exact formulas the largest of which gives many or all of the cells; as for peaks."""
    exponents: Mapping[str, Exponent]
    by_depth: Scaling
    by_batch: Scaling
    known: Mapping[tuple[int, int], int]
    """Bytes at each depth and batch: measured, or predicted beforehand by a law that equals every
    cell that was measured."""
    equal: int
    """Measured cells that equal the prediction."""
    predicted: int
    """Measured cells that have one."""

    @property
    def whole(self) -> bool:
        """One exact formula, or the largest of several, gives every cell."""
        return self.pieces is not None and self.pieces.rows == self.pieces.total

    def at(self, depth: Values, batch: Values) -> NDArray[np.float64]:
        """Return bytes by the exact formulas if they give every cell; else NaN."""
        columns = term_columns(np.asarray(depth), np.asarray(batch))
        if not self.whole:
            return np.full(len(columns["depth"]), np.nan)
        return np.asarray(self._by_form(columns).max(axis=0), dtype=np.float64)

    def moments(self) -> NDArray[np.int64]:
        """Return which of the exact formulas gives each cell, if they give all; else empty."""
        if not self.whole:
            return np.empty(0, dtype=np.int64)
        columns = self.sample.columns(PRODUCT)
        return np.asarray(self._by_form(columns).argmax(axis=0), dtype=np.int64)

    def _by_form(self, columns: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return each exact formula's bytes, (formulas, cells)."""
        forms = () if self.pieces is None else self.pieces.forms
        sums = [
            sum(float(part) * columns[term] for term, part in form.coefficients.items())
            for form in forms
        ]
        return np.asarray(sums, dtype=np.float64)


def term_columns(
    depth: NDArray[np.int64], batch: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Return the column of each of PRODUCT's terms."""
    columns = (np.ones_like(depth), depth, batch, depth * batch)
    return dict(zip(PRODUCT, columns, strict=True))


def sample(frame: pd.DataFrame, quantity: str) -> Sample:
    """Return column ``quantity`` of the cells that ended well and have it."""
    known = ok_cells(frame, quantity).sort_values(["depth", "batch"])
    depths, batches = known["depth"].nunique(), known["batch"].nunique()
    if depths < 3 or batches < 3 or len(known) < len(PRODUCT) + 2:
        cells = f"{len(known)} cells with {depths} depths and {batches} batches"
        raise AnalysisError(
            f"{quantity}: {cells}; a test of growth needs 6 cells, 3 depths and 3 batches"
        )
    if known.duplicated(["depth", "batch"]).any():
        raise AnalysisError(f"{quantity}: several cells of one depth and batch; select one kind")
    return Sample(
        quantity=quantity,
        depth=known["depth"].to_numpy(dtype=np.int64),
        batch=known["batch"].to_numpy(dtype=np.int64),
        values=known[quantity].to_numpy(dtype=np.int64),
    )


def exact_in(cells: Sample, terms: tuple[str, ...] = PRODUCT) -> ExactForm | None:
    """Return the formula in ``terms`` that equals every value, if there is one."""
    return exact_form(cells.columns(terms), cells.values)


def growth_of(frame: pd.DataFrame, quantity: str) -> Growth:
    """Test column ``quantity`` of ``frame`` (one kind of workload, depth x batch)."""
    cells = sample(frame, quantity)
    axes = {"depth": cells.depth, "batch": cells.batch}
    keys = zip(cells.depth.tolist(), cells.batch.tolist(), strict=True)
    measured = dict(zip(keys, cells.values.tolist(), strict=True))
    law = _predicted(frame, quantity)
    equal = sum(law.get(cell) == size for cell, size in measured.items())
    return Growth(
        sample=cells,
        exact=exact_in(cells),
        pieces=exact_pieces(cells),
        exponents=exponents(axes, cells.values),
        by_depth=scaling("depth", cells.depth, cells.batch, cells.values),
        by_batch=scaling("batch", cells.batch, cells.depth, cells.values),
        known=law if equal == len(measured) else measured,
        equal=equal,
        predicted=sum(cell in law for cell in measured),
    )


def _predicted(frame: pd.DataFrame, quantity: str) -> dict[tuple[int, int], int]:
    column = f"predicted.{quantity}"
    if column not in frame:
        return {}
    both = frame[["depth", "batch", column]].dropna().astype("int64")
    return {(depth, batch): size for depth, batch, size in both.itertuples(index=False)}


def squares(known: Mapping[tuple[int, int], int]) -> pd.DataFrame:
    """Return the squares of DEPTHS and BATCHES all four cells of which are known.

    A square has each of a depth and a batch once and doubled. Columns: its smaller ``depth`` and
    ``batch``, and ``factors``, what each of its four doublings multiplies the bytes by.
    """
    rows = []
    for depth, batch in itertools.product(DEPTHS[:-1], BATCHES[:-1]):
        cells = [known.get((depth * a, batch * b)) for a, b in ((1, 1), (2, 1), (1, 2), (2, 2))]
        if None in cells:
            continue
        low, deeper, larger, both = (max(int(size or 0), 0) for size in cells)
        steps = ((low, deeper), (low, larger), (deeper, both), (larger, both))
        factors = [after / before if before else 0.0 for before, after in steps]
        rows.append((depth, batch, factors))
    return pd.DataFrame(rows, columns=["depth", "batch", "factors"])


def exact_pieces(cells: Sample) -> ExactMaximum | None:
    """Return the exact formulas in PRODUCT's terms whose largest gives the sample.

    Each square of four neighbouring cells of the grid proposes one.
    """
    at = {key: row for row, key in enumerate(zip(cells.depth, cells.batch, strict=True))}
    depths, batches = np.unique(cells.depth), np.unique(cells.batch)
    squares = [
        [at[corner] for corner in itertools.product(rows, lines) if corner in at]
        for rows in itertools.pairwise(depths)
        for lines in itertools.pairwise(batches)
    ]
    return exact_maximum(cells.columns(PRODUCT), cells.values, squares)


def scaling(variable: str, starts: Values, lines: Values, values: Values) -> Scaling:
    """Compare neighbours along ``variable`` on each of ``lines`` (the variable held).

    A step that is no doubling is brought to one: a factor f over a ratio r counts as
    ``f ** (log 2 / log r)``. Steps from or to a value of zero or below are left out.
    """
    table = pd.DataFrame({"line": lines, "start": starts, "value": values}).astype(
        {"line": "int64", "start": "int64", "value": "float64"}
    )
    table = table[table["value"] > 0].sort_values(["line", "start"])
    after = table.groupby("line")[["start", "value"]].shift(-1)
    table = table.assign(stop=after["start"], next=after["value"]).dropna()
    if table.empty:
        raise AnalysisError(f"no two neighbouring cells differ in {variable}")
    ratio = table["stop"] / table["start"]
    factor = (table["next"] / table["value"]) ** (1 / np.log2(ratio))
    steps = table.assign(factor=factor, stop=table["stop"].astype("int64"))[
        ["line", "start", "stop", "factor"]
    ]
    return Scaling(variable=variable, steps=steps.reset_index(drop=True))

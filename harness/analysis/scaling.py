"""Asks neighbouring cells whether twice as much of one thing needs twice the memory.

No model is fitted: a cell is compared with the next one on the same line of the grid.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.fits import Values

STEPS = ["line", "start", "stop", "factor"]


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Growth of a quantity per doubling of one variable, every other variable held."""

    variable: str
    steps: pd.DataFrame
    """One row a pair of neighbours: ``line`` (the held value), ``start``, ``stop``, ``factor``
    (what one doubling multiplies the quantity by)."""

    def proportional_from(self, tolerance: float) -> int | None:
        """Return the smallest start from which every doubling gives 2 within ``tolerance``.

        None where even the last step of some line misses.
        """
        steps = self.steps[~self.within(tolerance)]
        starts = self.steps["start"]
        later = starts[starts > steps["start"].max()] if len(steps) else starts
        return int(later.min()) if len(later) else None

    def within(self, tolerance: float) -> "pd.Series[bool]":
        """Return for each step whether its factor is 2 within ``tolerance`` (0.1: 10%)."""
        return (self.steps["factor"] / 2 - 1).abs() <= tolerance * (1 + 1e-12)

    @property
    def smallest(self) -> float:
        """The smallest factor of one doubling."""
        return float(self.steps["factor"].min())

    @property
    def largest(self) -> float:
        """The largest factor of one doubling."""
        return float(self.steps["factor"].max())


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
    steps = table.assign(factor=factor, stop=table["stop"].astype("int64"))[STEPS]
    return Scaling(variable=variable, steps=steps.reset_index(drop=True))


def doubling_from(fixed: float, growing: float, tolerance: float) -> int | None:
    """Return the smallest whole n from which doubling ``fixed + growing * n`` is proportional.

    Solves ``fixed <= tolerance * 2 * (fixed + growing * n)``: the factor of one doubling falls
    short of 2 by ``fixed / (fixed + growing * n)``. None where it never gets there, or where
    the fixed part is negative (then doubling multiplies by more than 2).
    """
    if fixed < 0 or growing <= 0:
        return None
    exact = fixed * (1 / (2 * tolerance) - 1) / growing
    return max(1, -int(-exact // 1))

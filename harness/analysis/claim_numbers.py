"""Statistics of columns that the texts of ``claims.toml`` use, such as ``{ratio.ends:.3g}``."""

import math

import pandas as pd

from harness.schema.units import format_bytes


class Amount(float):
    """A number; format code ``B`` writes bytes with a unit, and NaN is written as ``none``.

    >>> f"{Amount(2048):B}, {Amount(0.5):.0%}, {Amount('nan'):.3g}"
    '2 KiB, 50%, none'
    """

    def __format__(self, spec: str) -> str:
        if math.isnan(self):
            return "none"
        return format_bytes(round(self)) if spec == "B" else super().__format__(spec)


class Ends:
    """The smallest and the largest number of a column, formatted as a range."""

    def __init__(self, low: Amount, high: Amount) -> None:
        self._both = (low, high)

    def __format__(self, spec: str) -> str:
        return " to ".join(dict.fromkeys(format(end, spec) for end in self._both))


class ColumnNumbers:
    """Statistics of the known numbers in a column.

    >>> seen = ColumnNumbers(pd.Series([1.0, 2.0, 4.0]))
    >>> "{0.ends:.2g}, median {0.median:g}".format(seen)
    '1 to 4, median 2'
    """

    def __init__(self, values: "pd.Series[float]") -> None:
        self._values = values.dropna().astype("float64")

    @property
    def min(self) -> Amount:
        """The smallest known number."""
        return Amount(self._values.min())

    @property
    def max(self) -> Amount:
        """The largest known number."""
        return Amount(self._values.max())

    @property
    def median(self) -> Amount:
        """The median of the known numbers."""
        return Amount(self._values.median())

    @property
    def last(self) -> Amount:
        """The last known number."""
        return Amount(self._values.iloc[-1] if len(self._values) else math.nan)

    @property
    def ends(self) -> Ends:
        """The smallest and the largest known number."""
        return Ends(self.min, self.max)


def columns(table: pd.DataFrame) -> dict[str, ColumnNumbers]:
    """Return the statistics of each numeric column, by column name."""
    return {
        str(name): ColumnNumbers(table[name])
        for name in table
        if pd.api.types.is_numeric_dtype(table[name])
    }

"""Measured and fitted memory of a network for each number of checkpointed segments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

DOMINANCE = 4.0
"""Activations dominate if they are at least this many times as large as a layer's gradients."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Memory of a network for each number of segments, with a fitted formula."""

    network: str
    depth: int
    activation_bytes: int
    """Bytes of one hidden layer's activations."""
    gradient_bytes: int
    """Bytes of the gradients of one hidden layer's weight and bias."""
    table: pd.DataFrame
    """Columns ``network, depth, segments, longest_segment, peak_live_bytes, rise_bytes,
    wall_seconds``; the step without checkpoints has 0 segments."""
    a: float
    """Fitted number of bytes per segment."""
    b: float
    """Fitted number of bytes per layer of the longest segment."""
    c: float
    r2: float
    is_whole: bool
    """True if every requested number of segments was measured."""
    seconds: tuple[float, ...]
    """Time of each checkpointed step's fastest repeat, in seconds."""
    base_seconds: tuple[float, ...]
    """Time of each uncheckpointed step's fastest repeat, in seconds."""

    @property
    def name(self) -> str:
        """Name of the network, including its depth."""
        return f"{self.network}, depth {self.depth}"

    @property
    def regime(self) -> str:
        """Kind of tensor that dominates the peak: ``activations``, ``both`` or ``gradients``."""
        if self.activation_bytes >= DOMINANCE * self.gradient_bytes:
            return "activations"
        return "both" if self.activation_bytes > self.gradient_bytes else "gradients"

    @property
    def root(self) -> int:
        """The square root of the depth, rounded to a whole number."""
        return round(math.sqrt(self.depth))

    @property
    def optimum(self) -> float:
        """Number of segments that minimizes the fitted formula; NaN if there is no minimum."""
        valid = min(self.a, self.b) >= 1
        return math.sqrt(self.b * self.depth / self.a) if valid else math.nan

    @property
    def optimum_in_words(self) -> str:
        """Text with the best number of segments by the fitted formula."""
        return "none" if math.isnan(self.optimum) else f"{self.optimum:.3g}"

    @property
    def _segmented(self) -> pd.DataFrame:
        return self.table[self.table["segments"] > 0]

    @property
    def lowest(self) -> int:
        """Smallest number of bytes that a checkpointed step adds to the live bytes."""
        return int(self._segmented["rise_bytes"].min())

    @property
    def most(self) -> int:
        """The largest measured number of segments."""
        return int(self._segmented["segments"].max())

    @property
    def without(self) -> int:
        """Bytes that the uncheckpointed step adds to the live bytes."""
        return self.at(0)

    @property
    def best(self) -> tuple[int, ...]:
        """The measured numbers of segments that need the least memory."""
        rows = self._segmented
        return tuple(int(k) for k in rows.loc[rows["rise_bytes"] == self.lowest, "segments"])

    def at(self, segments: int) -> int:
        """Return the bytes that the step with ``segments`` segments adds to the live bytes."""
        rows = self.table.loc[self.table["segments"] == segments, "rise_bytes"]
        return int(rows.iloc[0])

    @property
    def excess_at_root(self) -> float:
        """Relative difference between the memory with √depth segments and the lowest memory."""
        return self.at(self.root) / self.lowest - 1


def counts_in_words(counts: Sequence[int]) -> str:
    """Return several numbers of segments as text, such as ``6``, ``5 and 6``, or ``1 to 36``."""
    if len(counts) > 3:
        return f"{min(counts)} to {max(counts)}"
    return " and ".join(f"{count}" for count in counts)

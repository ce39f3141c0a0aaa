"""One network's memory against the number of checkpointed segments, with its fitted law."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

DOMINANCE = 4.0
"""Activations dominate if an activation has at least this multiple of a layer's gradients."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One network's memory over the number of segments, with the fitted law."""

    network: str
    depth: int
    activation_bytes: int
    """Bytes of one hidden layer."""
    gradient_bytes: int
    """Bytes of one hidden layer's weight and bias."""
    table: pd.DataFrame
    """Columns ``network, depth, segments, longest_segment, peak_live_bytes, rise_bytes,
    wall_seconds``; the step without checkpoints has 0 segments."""
    a: float
    """Bytes per segment."""
    b: float
    """Bytes per layer of the longest segment."""
    c: float
    r2: float
    is_whole: bool
    """True if every requested number of segments was measured."""
    seconds: tuple[float, ...]
    """Seconds of the fastest repeat of each step with segments."""
    base_seconds: tuple[float, ...]
    """Seconds of the steps without segments, each in its own process."""

    @property
    def name(self) -> str:
        """The network with its depth."""
        return f"{self.network}, depth {self.depth}"

    @property
    def regime(self) -> str:
        """The part that decides the peak: ``activations``, ``both``, or ``gradients``."""
        if self.activation_bytes >= DOMINANCE * self.gradient_bytes:
            return "activations"
        return "both" if self.activation_bytes > self.gradient_bytes else "gradients"

    @property
    def root(self) -> int:
        """The square root of the depth, to the nearest whole number."""
        return round(math.sqrt(self.depth))

    @property
    def optimum(self) -> float:
        """The number of segments at the minimum of the fitted law; NaN without a minimum."""
        valid = min(self.a, self.b) >= 1
        return math.sqrt(self.b * self.depth / self.a) if valid else math.nan

    @property
    def optimum_in_words(self) -> str:
        """The fitted optimum as text."""
        return "none" if math.isnan(self.optimum) else f"{self.optimum:.3g}"

    @property
    def _segmented(self) -> pd.DataFrame:
        return self.table[self.table["segments"] > 0]

    @property
    def lowest(self) -> int:
        """Least bytes that a step with segments adds."""
        return int(self._segmented["rise_bytes"].min())

    @property
    def most(self) -> int:
        """The largest measured number of segments."""
        return int(self._segmented["segments"].max())

    @property
    def without(self) -> int:
        """Bytes that the step without checkpoints adds."""
        return self.at(0)

    @property
    def best(self) -> tuple[int, ...]:
        """All measured numbers of segments that add the fewest bytes."""
        rows = self._segmented
        return tuple(int(k) for k in rows.loc[rows["rise_bytes"] == self.lowest, "segments"])

    def at(self, segments: int) -> int:
        """Return the bytes that the step with a number of segments adds."""
        rows = self.table.loc[self.table["segments"] == segments, "rise_bytes"]
        return int(rows.iloc[0])

    @property
    def excess_at_root(self) -> float:
        """Relative excess of the step at the square root over the least bytes."""
        return self.at(self.root) / self.lowest - 1


def counts_in_words(counts: Sequence[int]) -> str:
    """Return several numbers of segments as text, such as ``6``, ``5 and 6``, or ``1 to 36``."""
    if len(counts) > 3:
        return f"{min(counts)} to {max(counts)}"
    return " and ".join(f"{count}" for count in counts)

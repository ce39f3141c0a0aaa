"""Growth of memory over a training run: exact by the trace, with an interval by RSS."""

from dataclasses import dataclass

import numpy as np

from harness.analysis.decisions import interval
from harness.analysis.fits import Vector

from .runs import TRAIN, Run

PAGE_BYTES = 4096
MIN_EPOCHS = 5
"""A slope needs this many epochs after the first."""


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """Flatness of a run: whether each exact metric is the same in all full training steps."""

    steps: int
    """Full steps from the second on."""
    peaks: tuple[int, ...]
    """All different peaks of full steps, in bytes."""
    ends: tuple[int, ...]
    """All different numbers of bytes alive after a training step, partial steps included."""
    growth_bytes: int
    """Bytes alive after the last step minus bytes alive after the first step."""

    @property
    def flat(self) -> bool:
        """True if all peaks and all ends are equal, so that growth is exactly 0."""
        return len(self.peaks) == len(self.ends) == 1


def flatness(run: Run) -> Flatness:
    """Compare the metrics of a traced run's steps, exactly."""
    full = run.later_full_steps
    ends = run.steps.loc[run.steps["kind"] == TRAIN, "end_bytes"]
    return Flatness(
        steps=len(full),
        peaks=tuple(sorted({int(value) for value in full["peak_bytes"]})),
        ends=tuple(sorted({int(value) for value in ends})),
        growth_bytes=int(ends.iloc[-1] - ends.iloc[0]),
    )


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Growth of what a run holds, in bytes per training step, with its 99% interval."""

    estimate: float
    low: float
    high: float
    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Steps between the first and the last level."""
        return (self.epochs - 1) * self.steps_per_epoch

    def __str__(self) -> str:
        if self.low == self.high == 0:
            return f"less than one page of 4 KiB in {self.steps:,} steps"
        return f"{self.estimate:+.3g} ({self.low:+.3g} to {self.high:+.3g}) bytes a step"

    @property
    def words(self) -> str:
        """Growth, its interval, and the steps over which it was seen."""
        seen = f"over {self.epochs} epochs of {self.steps_per_epoch} steps"
        reach = max((self.high - self.low) / 2, PAGE_BYTES / self.steps)
        return f"{self} (99% interval, {seen}, which could have seen {reach:.2g} bytes a step)"


def resident_slope(run: Run) -> Slope | None:
    """Return the growth of what is held, from the second epoch on; None if the run is too short.

    The first epoch is left out: code, buffers and the heap are still being filled there.
    """
    trained = run.steps[(run.steps["kind"] == TRAIN) & (run.steps["epoch"] > 1)]
    means = trained.groupby("epoch")["resident_bytes"].mean().to_numpy(dtype=np.float64)
    if len(means) < MIN_EPOCHS:
        return None
    steps = len(trained) // len(means)
    estimate, low, high = growth_interval(means / steps)
    return Slope(estimate=estimate, low=low, high=high, epochs=len(means), steps_per_epoch=steps)


def growth_interval(levels: Vector) -> tuple[float, float, float]:
    """Return the mean step from one level to the next, with its interval.

    What a process holds at one moment depends on what it held before, so levels are not a sample,
    and a line through them gets an interval that is too narrow. Their differences are a sample if
    the noise adds up (a random walk). If it does not, neighbouring differences cancel in part, and
    the interval is too wide.
    """
    steps = np.diff(levels)
    error = float(steps.std(ddof=1)) / len(steps) ** 0.5
    middle = float(steps.mean())
    return (middle, *interval(middle, error, len(steps) - 1))

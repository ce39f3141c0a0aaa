"""Computes the growth of memory over a training run, from a trace or from RSS."""

from dataclasses import dataclass

import numpy as np

from harness.analysis.decisions import interval
from harness.analysis.fits import Vector

from .runs import TRAIN, Run

PAGE_BYTES = 4096
MIN_EPOCHS = 5
"""Smallest number of epochs, without the first epoch, from which a slope is computed."""


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """Range of the exact metrics over the training steps of a run."""

    steps: int
    """Number of full training steps, without the first step."""
    peaks: tuple[int, ...]
    """Distinct peaks of full steps, in bytes."""
    ends: tuple[int, ...]
    """Distinct values of live bytes after a training step; steps with partial batches are
    included."""
    growth_bytes: int
    """Bytes alive after the last step minus bytes alive after the first step."""

    @property
    def flat(self) -> bool:
        """True if all peaks are equal, and all steps end with equal live bytes."""
        return len(self.peaks) == len(self.ends) == 1


def flatness(run: Run) -> Flatness:
    """Compare the exact metrics of a traced run's steps."""
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
    """Growth of a run's memory, in bytes per training step, with its 99% interval."""

    estimate: float
    low: float
    high: float
    epochs: int
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Number of training steps between the first and the last epoch."""
        return (self.epochs - 1) * self.steps_per_epoch

    def __str__(self) -> str:
        if self.low == self.high == 0:
            return f"less than 4 KiB in {self.steps:,} steps"
        return f"{self.estimate:+.3g} ({self.low:+.3g} to {self.high:+.3g}) bytes a step"

    @property
    def words(self) -> str:
        """Text with the growth, its interval and the number of steps."""
        seen = f"over {self.epochs} epochs of {self.steps_per_epoch} steps"
        reach = max((self.high - self.low) / 2, PAGE_BYTES / self.steps)
        return f"{self} (99% interval {seen}; {reach:.2g} bytes a step would be visible)"


def resident_slope(run: Run) -> Slope | None:
    """Return the growth of memory from the second epoch on; None if the run is too short.

    The first epoch is left out, because code, buffers and the heap still grow during this epoch.
    """
    trained = run.steps[(run.steps["kind"] == TRAIN) & (run.steps["epoch"] > 1)]
    means = trained.groupby("epoch")["resident_bytes"].mean().to_numpy(dtype=np.float64)
    if len(means) < MIN_EPOCHS:
        return None
    steps = len(trained) // len(means)
    estimate, low, high = growth_interval(means / steps)
    return Slope(estimate=estimate, low=low, high=high, epochs=len(means), steps_per_epoch=steps)


def growth_interval(levels: Vector) -> tuple[float, float, float]:
    """Return the mean difference between successive ``levels``, with its interval.

    Successive levels of a process's memory are not independent, so the interval of a line fitted to
    the levels would be too narrow. The differences of levels are independent if the noise
    accumulates (a random walk). If the noise does not accumulate, neighbouring differences partly
    cancel, and the interval is too wide.
    """
    steps = np.diff(levels)
    error = float(steps.std(ddof=1)) / len(steps) ** 0.5
    middle = float(steps.mean())
    return (middle, *interval(middle, error, len(steps) - 1))

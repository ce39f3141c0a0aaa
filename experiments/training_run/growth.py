"""Growth of memory over a training run: exactly by the trace, by a fitted slope of RSS."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.analysis.fits import fit

from .runs import TRAIN, Run

MIN_EPOCHS = 5
"""A slope needs this many epochs after the first."""


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """Flatness of a run: the exact metrics of its full training steps are one number, or not."""

    steps: int
    """Full steps from the second on."""
    peaks: tuple[int, ...]
    """Every value that a full step's peak takes, bytes."""
    ends: tuple[int, ...]
    """Every value of what is alive after a training step, partial ones included."""
    growth_bytes: int
    """What is alive after the last step, less what was after the first."""

    @property
    def flat(self) -> bool:
        """One peak, one end: the slope against the step is exactly 0."""
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
    """Growth of what a run holds, in bytes per training step."""

    estimate: float
    error: float
    """Standard error (HC3)."""
    left_over: int
    """Degrees of freedom of the residuals."""
    epochs: int
    steps_per_epoch: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval of the slope."""
        reach = float(stats.t.ppf(0.5 + confidence / 2, self.left_over)) * self.error
        return self.estimate - reach, self.estimate + reach

    @property
    def grown_bytes(self) -> float:
        """Growth from the middle of the first of these epochs to the middle of the last."""
        return self.estimate * (self.epochs - 1) * self.steps_per_epoch


def resident_slope(run: Run) -> Slope | None:
    """Fit what is held against the step, from the second epoch on; None if the run is too short.

    Sizes of neighbouring steps depend on each other, so each epoch's mean counts once. The
    first epoch is left out: code, buffers and the heap are still being filled there.
    """
    trained = run.steps[(run.steps["kind"] == TRAIN) & (run.steps["epoch"] > 1)]
    means = trained.groupby("epoch")[["step", "resident_bytes"]].mean()
    if len(means) < MIN_EPOCHS:
        return None
    shape = {"epochs": len(means), "steps_per_epoch": len(trained) // len(means)}
    if trained["resident_bytes"].nunique() == 1:  # what is reserved of a GPU may not change at all
        return Slope(estimate=0.0, error=0.0, left_over=len(means) - 2, **shape)
    law = fit(
        {"constant": np.ones(len(means)), "step": means["step"].to_numpy(dtype=np.float64)},
        means["resident_bytes"].to_numpy(dtype=np.float64),
    )
    slope = law.coefficient("step")
    assert slope.error is not None, "several epochs judge it"
    return Slope(estimate=slope.estimate, error=slope.error, left_over=law.left_over, **shape)

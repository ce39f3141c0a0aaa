"""Training runs as frames: accuracy by epoch, memory by step, and whether it grows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from scipy.special import stdtrit

from harness.analysis import AnalysisError
from harness.analysis.fits import fit
from harness.analysis.frame import read_lines
from harness.schema.record import Outcome
from harness.schema.training_run import TRAINING_RUNS, TrainingResult, TrainingRun, from_json

TRAIN, EVALUATE = "train", "evaluate"
MIN_EPOCHS = 5
"""A slope needs this many epochs after the first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One process that trained one network, watched by one instrument."""

    model: str
    data: str
    device: str
    instrument: str
    """``resident`` (on a GPU, what is reserved) or ``trace``."""
    zero_grad: str
    """When a step frees the gradients of the step before."""
    epochs: pd.DataFrame
    """``epoch, accuracy, seconds``."""
    steps: pd.DataFrame
    """One row per training step or evaluated batch, in order: ``step`` (1, 2, ... over training
    steps, 0 in evaluation), ``kind, epoch, rows`` and what the instrument measured."""
    categories: Mapping[str, Mapping[str, int]]
    """Of a trace: live bytes by category at the peaks of four kinds of step."""

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch."""
        return float(self.epochs["accuracy"].iloc[-1])

    @property
    def full_rows(self) -> int:
        """Examples in a full step."""
        return int(self.steps["rows"].max())

    def batches(self, kind: str, *, full: bool = True) -> pd.DataFrame:
        """Return the full batches that were trained on or evaluated, or the partial ones."""
        own = self.steps["kind"] == kind
        return self.steps[own & ((self.steps["rows"] == self.full_rows) == full)]

    @property
    def later_full_steps(self) -> pd.DataFrame:
        """The full training steps from the second on: gradients exist before them."""
        full = self.batches(TRAIN)
        return full[full["step"] > 1]


def read_training_runs(folder: Path) -> list[TrainingRun]:
    """Return the training runs that a folder keeps.

    Raises:
        RecordError: a line that is none, the last one (torn by a crash) apart.

    """
    path = folder / TRAINING_RUNS
    return list(read_lines(path, from_json)) if path.is_file() else []


def runs(found: Iterable[TrainingRun]) -> list[Run]:
    """Return the runs that ended well, the last of each model, instrument and order.

    Raises:
        AnalysisError: there is none.

    """
    last = {}
    for one in found:
        if one.outcome is Outcome.OK and one.result is not None:
            last[one.workload.model, one.plan.instrument, one.plan.zero_grad] = _run(
                one, one.result
            )
    if not last:
        raise AnalysisError("no training run ended well")
    return [last[key] for key in sorted(last)]


def _run(one: TrainingRun, result: TrainingResult) -> Run:
    steps = pd.DataFrame(result.steps.columns())
    trained = steps["kind"] == TRAIN
    steps.insert(0, "step", trained.cumsum().where(trained, 0).astype("int64"))
    return Run(
        model=one.workload.model,
        data=one.workload.data,
        device=one.workload.device,
        instrument=one.plan.instrument,
        zero_grad=one.plan.zero_grad,
        epochs=pd.DataFrame(msgspec.to_builtins(result.epochs)),
        steps=steps,
        categories=result.categories,
    )


def in_main_order(found: Sequence[Run]) -> list[Run]:
    """Return the runs in the note's order of ``zero_grad``, or all where there is none."""
    return [run for run in found if run.zero_grad == "after_forward"] or list(found)


ORDERS = {
    "after_forward": "after the forward pass (the note)",
    "before_forward": "before the forward pass",
}
"""When gradients are freed, in words."""


def orders_table(found: Iterable[Run]) -> pd.DataFrame:
    """Return the peak of a full step by model and order of ``zero_grad``, where both were traced.

    Columns: ``model, gradients_freed, peak_bytes, peak_phase``; the note's order first.
    """
    rows = [
        {
            "model": run.model,
            "gradients_freed": ORDERS[run.zero_grad],
            "peak_bytes": int(run.later_full_steps["peak_bytes"].max()),
            "peak_phase": _phase(run.later_full_steps),
        }
        for run in found
        if run.instrument == "trace" and len(run.later_full_steps)
    ]
    table = pd.DataFrame(rows, columns=["model", "gradients_freed", "peak_bytes", "peak_phase"])
    both = table.groupby("model")["gradients_freed"].transform("nunique") == len(ORDERS)
    return table[both].sort_values(["model", "gradients_freed"], ignore_index=True)


def _phase(steps: pd.DataFrame) -> str | None:
    """Return the phase of the peak; None for runs of a harness that did not keep it."""
    if "peak_phase" not in steps:
        return None
    return str(steps["peak_phase"].iloc[int(steps["peak_bytes"].to_numpy().argmax())])


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """Whether the exact metrics of full training steps are one number, over a whole run."""

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
        reach = float(stdtrit(self.left_over, 0.5 + confidence / 2)) * self.error
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


def peaks_table(found: Iterable[Run]) -> pd.DataFrame:
    """Return, per traced run, the peak of each kind of step with its range over the run."""
    rows = []
    for run in found:
        first = run.steps[run.steps["step"] == 1]
        kinds = {
            "first step": first,
            "every later full step": run.later_full_steps,
            "last, partial batch of an epoch": run.batches(TRAIN, full=False),
            "evaluation of a full batch": run.batches(EVALUATE),
            "evaluation of the partial batch": run.batches(EVALUATE, full=False),
        }
        for name, part in kinds.items():
            if len(part):
                rows.append(
                    {
                        "model": run.model,
                        "step": name,
                        "examples": int(part["rows"].iloc[0]),
                        "steps": len(part),
                        "alive_before_bytes": int(part["start_bytes"].iloc[-1]),
                        "lowest_peak_bytes": int(part["peak_bytes"].min()),
                        "highest_peak_bytes": int(part["peak_bytes"].max()),
                        "alive_after_bytes": int(part["end_bytes"].iloc[-1]),
                    }
                )
    return pd.DataFrame(rows)

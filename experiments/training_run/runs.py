"""A whole training run: accuracy by epoch, memory by step, and whether it grows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

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
    """``resident`` (on a GPU, what is reserved of it) or ``trace``."""
    epochs: pd.DataFrame
    """``epoch, accuracy, seconds``."""
    steps: pd.DataFrame
    """A row a passage, in order: ``step`` (1, 2, ... over training steps alone, 0 in
    evaluation), ``kind, epoch, rows`` and the instrument's figures in bytes."""
    categories: Mapping[str, Mapping[str, int]]
    """Of a trace: bytes by category at the peaks of telling passages."""

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch."""
        return float(self.epochs["accuracy"].iloc[-1])

    @property
    def full_rows(self) -> int:
        """Examples in a full step."""
        return int(self.steps["rows"].max())

    def passages(self, kind: str, *, full: bool = True) -> pd.DataFrame:
        """Return the full passages of a kind, or the partial ones."""
        own = self.steps["kind"] == kind
        return self.steps[own & ((self.steps["rows"] == self.full_rows) == full)]


def read_training_runs(folder: Path) -> list[TrainingRun]:
    """Return the training runs that a folder keeps.

    Raises:
        RecordError: a line that is none, the last one (torn by a crash) apart.

    """
    path = folder / TRAINING_RUNS
    return list(read_lines(path, from_json)) if path.is_file() else []


def runs(found: Iterable[TrainingRun]) -> list[Run]:
    """Return the runs that ended well, the last of each model and instrument.

    Raises:
        AnalysisError: there is none.

    """
    last = {}
    for one in found:
        if one.outcome is Outcome.OK and one.result is not None:
            last[one.workload.model, one.plan.instrument] = _run(one, one.result)
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
        epochs=pd.DataFrame(msgspec.to_builtins(result.epochs)),
        steps=steps,
        categories=result.categories,
    )


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """Whether the exact figures of full training steps are one number, over a whole run."""

    steps: int
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
    """Compare the figures of a traced run's steps, exactly."""
    full = run.passages(TRAIN)
    ends = run.steps.loc[run.steps["kind"] == TRAIN, "end_bytes"]
    return Flatness(
        steps=len(full),
        peaks=tuple(sorted({int(value) for value in full["peak_bytes"]})),
        ends=tuple(sorted({int(value) for value in ends})),
        growth_bytes=int(ends.iloc[-1] - ends.iloc[0]),
    )


@dataclass(frozen=True, kw_only=True)
class Slope:
    """Growth of the process's size, in bytes per training step, with its 95 % interval."""

    estimate: float
    low: float
    high: float
    epochs: int
    steps_per_epoch: int

    @property
    def grown_bytes(self) -> float:
        """Growth from the middle of the first of these epochs to the middle of the last."""
        return self.estimate * (self.epochs - 1) * self.steps_per_epoch


def resident_slope(run: Run) -> Slope | None:
    """Fit the resident size against the step, from the second epoch on; None if too short.

    Sizes of neighbouring steps depend on each other, so each epoch's mean counts once. The
    first epoch is left out: code, buffers and the heap are still being filled there.
    """
    trained = run.steps[(run.steps["kind"] == TRAIN) & (run.steps["epoch"] > 1)]
    means = trained.groupby("epoch")[["step", "resident_bytes"]].mean()
    if len(means) < MIN_EPOCHS:
        return None
    shape = {"epochs": len(means), "steps_per_epoch": len(trained) // len(means)}
    if trained["resident_bytes"].nunique() == 1:  # what is reserved of a GPU need not move at all
        return Slope(estimate=0.0, low=0.0, high=0.0, **shape)
    law = fit(
        {"constant": np.ones(len(means)), "step": means["step"].to_numpy(dtype=np.float64)},
        means["resident_bytes"].to_numpy(dtype=np.float64),
    )
    slope = law.coefficient("step")
    assert slope.low is not None, "several epochs judge it"
    assert slope.high is not None, "several epochs judge it"
    return Slope(
        estimate=slope.estimate,
        low=slope.low,
        high=slope.high,
        **shape,
    )


def passages_table(found: Iterable[Run]) -> pd.DataFrame:
    """Return, per traced run, the peak of each kind of passage with its range over the run."""
    rows = []
    for run in found:
        first = run.steps[run.steps["step"] == 1]
        later = run.passages(TRAIN)
        kinds = {
            "first step": first,
            "every later full step": later[later["step"] > 1],
            "last, partial batch of an epoch": run.passages(TRAIN, full=False),
            "evaluation of a full batch": run.passages(EVALUATE),
            "evaluation of the partial batch": run.passages(EVALUATE, full=False),
        }
        for name, part in kinds.items():
            if len(part):
                rows.append(
                    {
                        "model": run.model,
                        "passage": name,
                        "examples": int(part["rows"].iloc[0]),
                        "passages": len(part),
                        "alive_before_bytes": int(part["start_bytes"].iloc[-1]),
                        "lowest_peak_bytes": int(part["peak_bytes"].min()),
                        "highest_peak_bytes": int(part["peak_bytes"].max()),
                        "alive_after_bytes": int(part["end_bytes"].iloc[-1]),
                    }
                )
    return pd.DataFrame(rows)


def thin(run: Run, most: int = 400) -> pd.DataFrame:
    """Return about ``most`` passages of a run for a picture, every kind in every epoch.

    Adds ``passage`` (its kind in words) and ``epochs_trained``, a fraction.
    """
    steps = run.steps
    full = steps["rows"] == run.full_rows
    names = pd.Series("training, full batch", index=steps.index)
    names[(steps["kind"] == TRAIN) & ~full] = "training, partial batch"
    names[steps["kind"] == EVALUATE] = "evaluation, full batch"
    names[(steps["kind"] == EVALUATE) & ~full] = "evaluation, partial batch"
    within = steps.groupby("epoch").cumcount() / steps.groupby("epoch")["kind"].transform("size")
    table = steps.assign(passage=names, epochs_trained=steps["epoch"] - 1 + within)
    apart = max(1, len(table) // most)
    edge = (table["passage"] != table["passage"].shift()) | (table.index < 5)
    return table[edge | (table.index % apart == 0)].reset_index(drop=True)

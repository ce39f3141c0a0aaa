"""Converts training runs to data frames of accuracy by epoch and of memory by step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import pandas as pd

from harness.analysis import AnalysisError
from harness.schema.record import Outcome
from harness.schema.training_run import TrainingResult, TrainingRun

TRAIN, EVALUATE = "train", "evaluate"


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One process that trained a network, measured by one instrument."""

    model: str
    data: str
    device: str
    instrument: str
    """``resident`` (RSS, or reserved bytes on a GPU) or ``trace``."""
    zero_grad: str
    """When a step frees the previous step's gradients, e.g. ``after_forward``."""
    epochs: pd.DataFrame
    """Frame with the columns ``epoch, accuracy, seconds``."""
    steps: pd.DataFrame
    """One row per training step or evaluated batch, in order. ``step`` numbers the training steps
    from 1 and is 0 in evaluation. Further columns are ``kind, epoch, rows`` and the instrument's
    metrics."""
    categories: Mapping[str, Mapping[str, int]]
    """Live bytes by category at the peaks of four kinds of step, from the trace."""

    @property
    def full_rows(self) -> int:
        """Number of examples in a full step."""
        return int(self.steps["rows"].max())

    def batches(self, kind: str, *, full: bool = True) -> pd.DataFrame:
        """Return the rows of ``kind``: with full batches, or with partial ones if not ``full``."""
        own = self.steps["kind"] == kind
        return self.steps[own & ((self.steps["rows"] == self.full_rows) == full)]

    @property
    def later_full_steps(self) -> pd.DataFrame:
        """Full training steps after the first step, i.e. steps that start with gradients."""
        full = self.batches(TRAIN)
        return full[full["step"] > 1]


def runs(answer: Iterable[TrainingRun]) -> list[Run]:
    """Return the last successful run of each model, instrument and order of ``zero_grad``.

    Raises:
        AnalysisError: all runs failed.

    """
    last = {}
    for one in answer:
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


def in_main_order(answer: Sequence[Run]) -> list[Run]:
    """Return the runs in the note's order of ``zero_grad``; all runs if no run has this order."""
    return [run for run in answer if run.zero_grad == "after_forward"] or list(answer)

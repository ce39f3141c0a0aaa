"""Runs jobs one at a time on this machine, each in processes of its own.

The jobs are thresholds, whole training runs, and steps of any network or functions that count. The
last two run on this CPU, or on a pretended GPU.
"""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from harness.dry_runs.toolchain import torch_version
from harness.measurement.environment import describe, versions
from harness.measurement.process.launcher import Launcher
from harness.measurement.process.messages import Train
from harness.measurement.process.outcome import classify
from harness.planning.ask_step import checked, ended_question
from harness.planning.step_question import SEED, Count, TraceStep
from harness.prediction.gpu.catalogue import gpu_of
from harness.schema.errors import HarnessError
from harness.schema.events import Trace
from harness.schema.metrics import Metrics
from harness.schema.provenance import Environment
from harness.schema.record import Outcome
from harness.schema.step_request import StepRequest, own_places
from harness.schema.threshold import Threshold, ThresholdQuestion
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.training_run import TrainingJob, TrainingPlan, TrainingResult, TrainingRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.sweeps.executors.local import Slot
from harness.sweeps.experiment_files import place_of
from harness.sweeps.runner import Job, Line, Runner, ended
from harness.thresholds.enforcement import choose_kind
from harness.thresholds.find_threshold import find_threshold


class LocalRunner(Runner[Job, Line]):
    """Runs a job when it is submitted; its launchers stay for the next one."""

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._slot = Slot()

    def submit(self, job: Job, attempt: int) -> "Future[tuple[Line, Trace | None]]":
        """Run ``job`` now; the future that comes back has ended."""
        return ended(self.run(job, attempt))

    @abstractmethod
    def run(self, job: Job, attempt: int) -> Line:
        """Return the result of ``job``."""

    def close(self) -> None:
        """End the launchers."""
        self._slot.close()


class ThresholdRunner(LocalRunner[ThresholdQuestion, Threshold]):
    """Finds thresholds."""

    line = Threshold

    def prepared(
        self, jobs: list[ThresholdQuestion], is_finished: Callable[[str], bool]
    ) -> list[ThresholdQuestion]:
        """Return the questions with how this machine enforces their budgets."""
        del is_finished
        return [replace(job, kind=choose_kind(job.workload, "auto")) for job in jobs]

    def run(self, job: ThresholdQuestion, attempt: int) -> Threshold:
        """Return the answer."""
        return find_threshold(
            job.workload,
            budget_bytes=job.budget_bytes,
            confirmations=job.confirmations,
            deadline_seconds=self._deadline_seconds,
            launcher=self._slot.launcher(job.workload.malloc),
            attempt=attempt,
        )

    def describe(self, line: Threshold) -> str:
        """Return workload and answer."""
        return f"{line.workload}: {line.answer}"


class TrainingRunner(LocalRunner[TrainingJob, TrainingRun]):
    """Trains each network as its plan says, on the real images where they can be had."""

    line = TrainingRun
    _replaced: frozenset[TrainingPlan] = frozenset()
    """Plans whose real images are missing."""
    _missing: str | None = None
    """Why the real images cannot be had, and how to get them."""

    @property
    def _launcher(self) -> Launcher:
        return self._slot.launcher("pinned")

    def prepared(
        self, jobs: list[TrainingJob], is_finished: Callable[[str], bool]
    ) -> list[TrainingJob]:
        """Return ``jobs``, on synthetic images where the real ones are wanted but missing."""
        on_real = [
            job for job in jobs if job.workload.data != "synthetic" and not is_finished(job.cell_id)
        ]
        self._missing = self._images_missing() if on_real else None
        if self._missing is None:
            return jobs
        self.notes = (f"synthetic images are used, so accuracy stays open: {self._missing}",)
        self._replaced = frozenset(job.plan for job in on_real)
        return [
            replace(job, workload=job.workload.replace(data="synthetic")) if job in on_real else job
            for job in jobs
        ]

    def _images_missing(self) -> str | None:
        job = Train(
            workload=Workload(data="fashion-mnist"),
            plan=TrainingPlan(epochs=0, examples=1, validation=1),
        )
        failure = self._launcher.launch(job, self._deadline_seconds).failure
        return failure.message if failure is not None and failure.users_mistake else None

    def run(self, job: TrainingJob, attempt: int) -> TrainingRun:
        """Return the whole run."""
        work = Train(workload=job.workload, plan=job.plan)
        end = self._launcher.launch(work, self._deadline_seconds)
        outcome, evidence = classify(end)
        result = dict(end.result or {})
        environment = describe(job.workload, self._launcher.name) | result.pop("environment", {})
        return TrainingRun(
            workload=job.workload,
            plan=job.plan,
            outcome=outcome,
            evidence=evidence,
            images_missing=self._missing if job.plan in self._replaced else None,
            attempt=attempt,
            environment=environment,
            seconds=end.seconds,
            result=msgspec.convert(result, TrainingResult) if outcome is Outcome.OK else None,
        )

    def describe(self, line: TrainingRun) -> str:
        """Return network, instrument, outcome and peak."""
        peaks = () if line.result is None else line.result.steps.peak_bytes
        known = f", peak {format_bytes(max(peaks))}" if peaks else ""
        return f"{line.workload}, {line.plan.instrument}: {line.outcome}{known}"


class TracedRunner(LocalRunner[StepJob, StepRun]):
    """Traces steps of any network, in a fork of a process that has PyTorch loaded."""

    line = StepRun

    def __init__(self, deadline_seconds: float, steps_from: str | Path = Path()) -> None:
        super().__init__(deadline_seconds)
        self._steps_from = steps_from

    def run(self, job: StepJob, attempt: int) -> StepRun:
        """Return the metrics of the step, or what a function counted."""
        on_gpu = job.device == "cuda"
        launcher = None if on_gpu else self._slot.launcher("pinned")
        line = partial(StepRun, job=job, attempt=attempt, environment=_surroundings(job, launcher))
        try:
            kind = Count if job.counts else TraceStep
            question = kind(
                request=_request_of(job, self._steps_from),
                device=job.device,
                gpus=(checked(gpu_of(job.gpu)),) if on_gpu else (),
            )
            end = ended_question(question, self._deadline_seconds, launcher=launcher)
        except HarnessError as error:  # no GPU can be pretended here
            return line(outcome=Outcome.UNSUPPORTED, evidence={"message": str(error)})
        outcome, evidence = classify(end)
        if outcome is not Outcome.OK or end.result is None:
            return line(outcome=outcome, evidence=evidence)
        if job.counts:
            return line(outcome=outcome, counted=end.result)
        metrics = {name: end.result[name] for name in Metrics.__struct_fields__}
        return line(outcome=outcome, metrics=msgspec.convert(metrics, Metrics))

    def describe(self, line: StepRun) -> str:
        """Return the job, how it ended and its peak."""
        peak = line.metrics.peak_live_bytes if line.metrics else None
        known = "" if peak is None else f", peak {format_bytes(peak)}"
        return f"{line.job}: {line.outcome}{known}"


def _surroundings(job: StepJob, launcher: Launcher | None) -> Environment:
    """Return what a reader needs to judge or repeat a step; without a launcher it is pretended."""
    malloc = "system" if launcher is None else "pinned"
    named = "dry run" if launcher is None else launcher.name
    own: Environment = {
        "torch": torch_version() or "none",
        "device": f"pretended {job.gpu}" if launcher is None else job.device,
        "threads": StepRequest().threads,
        "seed": SEED,
    }
    return describe(Workload(malloc=malloc), named) | own | versions("transformers", "triton")


def _request_of(job: StepJob, start: str | Path) -> StepRequest:
    """Return the step as a worker is asked for it."""
    named = ("optimizer", "loss", "inputs_from")
    same = ("batch", "inputs", "classes", "mode", "autocast", "accumulate", "compile")
    return StepRequest(
        target=_placed(job.network, start),
        arguments=tuple(f"{name}={value!r}" for name, value in job.arguments.items()),
        **{name: _placed(getattr(job, name), start) for name in named},
        **{name: getattr(job, name) for name in same},
        **own_places(),
    )


def _placed(name: str | None, start: str | Path) -> Any:
    """Return the whole name of a callable; one with a leading dot begins at ``start``."""
    if not name or not name.startswith("."):
        return name
    module, _, called = name.partition(":")
    place = place_of(module, start)
    return f"{place}.py:{called}" if isinstance(place, Path) else f"{place}:{called}"

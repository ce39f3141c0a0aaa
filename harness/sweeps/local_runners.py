"""Runs threshold searches and whole training runs, one at a time in separate processes."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from harness.measurement.train_job import Train
from harness.processes.environment import describe
from harness.processes.launcher import Launcher
from harness.processes.outcome import classify
from harness.schema.record import Outcome
from harness.schema.threshold import Threshold, ThresholdQuestion
from harness.schema.training_run import TrainingJob, TrainingPlan, TrainingResult, TrainingRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.sweeps.local_runner import LocalRunner
from harness.thresholds.enforcement import choose_kind
from harness.thresholds.find_threshold import find_threshold


class ThresholdRunner(LocalRunner[ThresholdQuestion, Threshold]):
    """Finds the largest batch that fits each memory budget."""

    line = Threshold

    def prepared(
        self, jobs: list[ThresholdQuestion], is_finished: Callable[[str], bool]
    ) -> list[ThresholdQuestion]:
        """Return the jobs with the kind of memory limit that this machine can enforce."""
        del is_finished
        return [replace(job, kind=choose_kind(job.workload, "auto")) for job in jobs]

    def run(self, job: ThresholdQuestion, attempt: int) -> Threshold:
        """Run the threshold search and return its result."""
        return find_threshold(
            job.workload,
            budget_bytes=job.budget_bytes,
            confirmations=job.confirmations,
            deadline_seconds=self._deadline_seconds,
            launcher=self._slot.launcher(job.workload.malloc),
            attempt=attempt,
        )

    def describe(self, line: Threshold) -> str:
        """Return the workload and the threshold in one line."""
        return f"{line.workload}: {line.answer}"


class TrainingRunner(LocalRunner[TrainingJob, TrainingRun]):
    """Runs training plans, on the real images if these images are available."""

    line = TrainingRun
    _replaced: frozenset[TrainingPlan] = frozenset()
    """Training plans whose real images are missing."""
    _missing: str | None = None
    """Reason why the real images are missing, and how to get the images."""

    @property
    def _launcher(self) -> Launcher:
        return self._slot.launcher("pinned")

    def prepared(
        self, jobs: list[TrainingJob], is_finished: Callable[[str], bool]
    ) -> list[TrainingJob]:
        """Return ``jobs``; jobs whose real images are missing get synthetic images."""
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
        """Run the whole training, and return its result."""
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
        """Return the network, instrument, outcome and peak in one line."""
        peaks = () if line.result is None else line.result.steps.peak_bytes
        known = f", peak {format_bytes(max(peaks))}" if peaks else ""
        return f"{line.workload}, {line.plan.instrument}: {line.outcome}{known}"

"""Runs whole training runs, one at a time on this machine, each in a process of its own."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import cached_property

import msgspec

from harness.measurement.environment import describe
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.outcome import classify
from harness.schema.events import Trace
from harness.schema.record import Outcome, to_json
from harness.schema.training_run import (
    TRAINING_RUNS,
    TrainingJob,
    TrainingPlan,
    TrainingResult,
    TrainingRun,
    from_json,
    run_id,
)
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.sweeps.runner import Runner, ended
from harness.sweeps.step_runner import step_seconds
from harness.sweeps.store import Kind

TRAINING_RUN = Kind(
    file=TRAINING_RUNS, encode=to_json, decode=from_json, cell=lambda one: one.cell_id
)


class TrainingRunner(Runner[TrainingJob, TrainingRun]):
    """Trains each network as its plan says, on the real images where they can be had."""

    kind = TRAINING_RUN

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._missing_for: set[TrainingPlan] = set()
        """Plans whose real images are missing."""

    @cached_property
    def _launcher(self) -> Launcher:
        return default_launcher("pinned")

    def prepared(
        self, jobs: list[TrainingJob], is_finished: Callable[[str], bool]
    ) -> list[TrainingJob]:
        """Return ``jobs``, on synthetic images where the real ones are wanted but missing."""
        placed = [self._placed(job, finished=is_finished(self.cell_id(job))) for job in jobs]
        if self._missing_for:
            why = self._images_missing
            self.notes = (f"synthetic images are used, so accuracy stays open: {why}",)
        return placed

    def _placed(self, job: TrainingJob, *, finished: bool) -> TrainingJob:
        if job.workload.data == "synthetic" or finished or self._images_missing is None:
            return job
        self._missing_for.add(job.plan)
        return TrainingJob(workload=job.workload.replace(data="synthetic"), plan=job.plan)

    @cached_property
    def _images_missing(self) -> str | None:
        """Why the real images cannot be had and how to get them; None where they are there."""
        job = Job(
            kind="training_run",
            workload=Workload(data="fashion-mnist"),
            run=TrainingPlan(epochs=0, examples=1, validation=1),
        )
        failure = self._launcher.launch(job, self._deadline_seconds).failure
        return failure.message if failure is not None and failure.users_mistake else None

    def cell_id(self, job: TrainingJob) -> str:
        """Return the name of the run."""
        return run_id(job.workload, job.plan)

    def seconds(self, job: TrainingJob) -> float:
        """Return a guess from the arithmetic of all steps."""
        steps = job.plan.epochs * (job.plan.examples + job.plan.validation) / job.workload.batch
        return steps * step_seconds(job.workload)

    def submit(self, job: TrainingJob, attempt: int) -> "Future[tuple[TrainingRun, Trace | None]]":
        """Run ``job`` now; the future that comes back has ended."""
        work = Job(kind="training_run", workload=job.workload, run=job.plan)
        return ended(self._line(job, attempt, self._launcher.launch(work, self._deadline_seconds)))

    def _line(self, job: TrainingJob, attempt: int, end: Ended) -> TrainingRun:
        outcome, evidence = classify(end)
        result = dict(end.result or {})
        environment = describe(job.workload, self._launcher.name) | result.pop("environment", {})
        good = outcome is Outcome.OK
        return TrainingRun(
            workload=job.workload,
            plan=job.plan,
            outcome=outcome,
            evidence=evidence,
            images_missing=self._images_missing if job.plan in self._missing_for else None,
            attempt=attempt,
            environment=environment,
            seconds=end.seconds,
            result=msgspec.convert(result, TrainingResult) if good else None,
        )

    def describe(self, line: TrainingRun) -> str:
        """Return network, instrument, outcome and peak."""
        peaks = () if line.result is None else line.result.steps.peak_bytes
        known = f", peak {format_bytes(max(peaks))}" if peaks else ""
        return f"{line.workload}, {line.plan.instrument}: {line.outcome}{known}"

    def close(self) -> None:
        """End the launcher, if there is one."""
        if "_launcher" in vars(self):  # a cached property that was used
            self._launcher.close()

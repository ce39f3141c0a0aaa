"""Runs an experiment's jobs, keeps each result, resumes by itself."""

import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.measurement.measure import DEADLINE_SECONDS
from harness.schema.events import Trace
from harness.schema.experiment import Experiment, Size
from harness.schema.rank_run import RankJob
from harness.schema.sweep_progress import Progress
from harness.schema.training_run import TrainingJob
from harness.sweeps.executors import Cell, Executor, make_executor
from harness.sweeps.experiment_origin import keep_origin
from harness.sweeps.rank_runner import RankRunner
from harness.sweeps.runner import Runner
from harness.sweeps.step_runner import StepRunner
from harness.sweeps.store import Kept, LineStore, StoreError
from harness.sweeps.threshold_runner import ThresholdRunner
from harness.sweeps.traced_runner import TracedRunner
from harness.sweeps.training_runner import TrainingRunner

CHECK_SECONDS = 1.0
"""How often an executor is asked whether anything fell silent."""

Job = TypeVar("Job")
PlacedJob = TypeVar("PlacedJob", TrainingJob, RankJob)
Line = TypeVar("Line", bound=Kept)


def run(
    experiment: Experiment,
    size: Size,
    out: Path,
    progress: Progress,
    *,
    device: str = "cpu",
    deadline_seconds: float = DEADLINE_SECONDS,
    executor: Executor | None = None,
) -> Counter[str]:
    """Run every job of ``experiment`` on ``device`` whose result ``out`` does not hold yet.

    If it is interrupted, the same call resumes. Cells go to ``executor``, by default one at a
    time on this machine; thresholds and whole training runs always run so.
    """
    folder = out / experiment.name
    _refuse_other_device(folder, device)
    with ExitStack() as stack:
        used = stack.enter_context(_used(executor))
        parts: list[_Part[Any, Any]] = []
        kinds: tuple[tuple[Runner[Any, Any], list[Any]], ...] = (
            (StepRunner(used), _cells(experiment, size, device, deadline_seconds)),
            (ThresholdRunner(deadline_seconds), list(experiment.thresholds(size, device))),
            (TrainingRunner(deadline_seconds), _placed(experiment.training_runs(size), device)),
            (RankRunner(deadline_seconds), _placed(experiment.rank_runs(size), device)),
            (TracedRunner(deadline_seconds), list(experiment.step_jobs(size))),
        )
        for runner, jobs in kinds:
            if jobs:
                stack.enter_context(closing(runner))
                store = stack.enter_context(LineStore(folder, runner.kind))
                parts.append(_Part(runner, store, runner.prepared(jobs, store.is_finished)))
        if not any(part.cells for part in parts):
            what = "no cells, thresholds or training runs"
            raise StoreError(f"{experiment.name}: nothing to measure: {what} of size {size.value}")
        keep_origin(folder, experiment)  # the folder is there, and no other sweep writes to it
        _run(experiment.name, parts, progress)
        return sum((part.outcomes() for part in parts), Counter[str]())


def _cells(experiment: Experiment, size: Size, device: str, deadline_seconds: float) -> list[Cell]:
    traced = {cell.replace(device=device).id for cell in experiment.traced(size)}
    placed = [cell.replace(device=device) for cell in experiment.cells(size)]
    return [
        Cell(
            workload=workload,
            repeats=experiment.repeats,
            deadline_seconds=deadline_seconds,
            keep_events=name in traced,
        )
        for name, workload in {cell.id: cell for cell in placed}.items()
    ]


def _placed(jobs: Iterable[PlacedJob], device: str) -> list[PlacedJob]:
    return [replace(job, workload=job.workload.replace(device=device)) for job in jobs]


def _refuse_other_device(folder: Path, device: str) -> None:
    """Keep the records of two devices apart: no analysis could distinguish them."""
    for path in folder.glob("*.jsonl"):
        with path.open("rb") as lines, suppress(ValueError, KeyError, TypeError):
            kept = json.loads(lines.readline())["workload"].get("device", "cpu")
            if kept != device:
                rule = f"holds records of device {kept}; give --out another folder for {device}"
                raise StoreError(f"out: {str(folder)!r}: {rule}")


@contextmanager
def _used(executor: Executor | None) -> Iterator[Executor]:
    """Yield ``executor``, or one of our own that ends with the sweep."""
    if executor is not None:
        yield executor
        return
    own = make_executor()
    try:
        yield own
    finally:
        own.close()


class _Part(Generic[Job, Line]):
    """The jobs of one kind: hands them out, keeps what comes back, tries accidents again."""

    def __init__(
        self, runner: Runner[Job, Line], store: LineStore[Line], jobs: Iterable[Job]
    ) -> None:
        self._runner = runner
        self._store = store
        wanted = list(jobs)
        self._left = deque(job for job in wanted if not store.is_finished(runner.cell_id(job)))
        self._running: dict[Future[tuple[Line, Trace | None]], Job] = {}
        self.cells = len(wanted)
        self.left = len(self._left)
        self.seconds = sum(runner.seconds(job) for job in self._left)
        self.repairs, self.notes = store.repairs, runner.notes
        self._names = [runner.cell_id(job) for job in wanted]

    def outcomes(self) -> Counter[str]:
        """Count how the jobs ended."""
        return Counter[str](self._store.outcomes[name] for name in self._names)

    def run(self, meter: "_Meter") -> None:
        """Run until nothing is left."""
        while self._left or self._running:
            self._submit()
            if not self._running:
                time.sleep(CHECK_SECONDS)  # no place for a job just now
            else:
                wait(self._running, timeout=CHECK_SECONDS, return_when=FIRST_COMPLETED)
            ended = [future for future in self._running if future.done()]
            # What was measured is kept before an exception may end the sweep.
            for future in sorted(ended, key=lambda future: future.exception() is not None):
                self._settle(future, meter)
            self._runner.check()

    def _submit(self) -> None:
        while self._left and len(self._running) < self._runner.capacity():
            job = self._left.popleft()
            attempt = self._store.attempts(self._runner.cell_id(job)) + 1
            self._running[self._runner.submit(job, attempt)] = job

    def _settle(self, future: "Future[tuple[Line, Trace | None]]", meter: "_Meter") -> None:
        job = self._running.pop(future)
        line, trace = future.result()
        name = self._runner.cell_id(job)
        if trace is not None:
            self._store.write_events(name, trace)
        self._store.append(line)
        finished = self._store.is_finished(name)
        if not finished:
            self._left.appendleft(job)
        seconds = self._runner.seconds(job) if finished else None
        meter.ended(self._runner.describe(line), seconds)


def _run(experiment: str, parts: Sequence[_Part[Any, Any]], progress: Progress) -> None:
    """Run all parts of an experiment, one after the other."""
    cells, left = (sum(getattr(part, name) for part in parts) for name in ("cells", "left"))
    notes = [f"repaired: {repair}" for part in parts for repair in part.repairs]
    notes += [note for part in parts for note in part.notes]
    progress.begin(experiment, cells=cells, done=cells - left, notes=notes)
    meter = _Meter(progress, left, sum(part.seconds for part in parts))
    for part in parts:
        part.run(meter)


class _Meter:
    """Shows how far a sweep is, and estimates the time left from the guesses for its jobs."""

    def __init__(self, progress: Progress, left: int, guessed_seconds: float) -> None:
        self._progress = progress
        self._left = left
        self._guessed_left = guessed_seconds
        self._guessed_done = 0.0
        self._started: float | None = None

    def ended(self, description: str, guessed_seconds: float | None) -> None:
        """Count one attempt; without seconds its job will be tried again."""
        if guessed_seconds is not None:
            self._left -= 1
            self._guessed_left -= guessed_seconds
            if self._started is None:
                self._started = time.monotonic()
            else:
                self._guessed_done += guessed_seconds
        self._progress.cell(description, left=self._left, seconds_left=self._seconds_left())

    def _seconds_left(self) -> float | None:
        if self._started is None or not self._guessed_done:
            return None
        taken = time.monotonic() - self._started
        return max(0.0, self._guessed_left) * taken / self._guessed_done

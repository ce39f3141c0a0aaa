"""Runs the jobs of an experiment or of a grid, and stores each result."""

import dataclasses
import json
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, cast

from harness.measurement.measure import DEADLINE_SECONDS
from harness.measurement.workload_memory import needed_bytes
from harness.schema.argument_checks import ArgumentError, check_choice
from harness.schema.errors import HarnessError
from harness.schema.events import Trace
from harness.schema.experiment import Experiment, Size
from harness.schema.plain_file import check_plain
from harness.schema.provenance import Environment
from harness.schema.record import Outcome, Record
from harness.schema.training_run import TrainingJob
from harness.schema.units import format_bytes
from harness.schema.users_place import users_place
from harness.schema.workload import Workload, check_workload
from harness.sweeps.executors import Cell, Executor, Measured, make_executor
from harness.sweeps.experiment_files import ExperimentError, keep_origin
from harness.sweeps.local_runners import ThresholdRunner, TrainingRunner
from harness.sweeps.runner import Job, Line, Runner, ended, origin_of_line
from harness.sweeps.store import LineStore, StoreError
from harness.sweeps.traced_runner import TracedRunner

if TYPE_CHECKING:
    from harness.schema.experiment import Evidence
    from harness.schema.findings import Section

CHECK_SECONDS = 1.0
"""Seconds between two checks for jobs that no longer respond."""


class Progress(Protocol):
    """Shows the progress of a sweep; a method that is not overridden shows nothing."""

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Show the start of a sweep: the number of cells, and how many cells are already done."""
        del experiment, cells, done, notes

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Show the outcome of a cell, the number of cells left and the estimated time left."""
        del description, left, seconds_left


class Silent(Progress):
    """Progress display that shows nothing."""


def sweep(
    grid: Iterable[Workload],
    *,
    out: Path | str,
    repeats: int = 3,
    device: Literal["cpu", "cuda"] = "cpu",
    deadline_seconds: float = DEADLINE_SECONDS,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure every workload of a grid, and save the records in a folder.

    Each workload is measured in separate processes. If the sweep is interrupted, the same call
    resumes it. A failed measurement, e.g. out of memory, is also saved as a record.

    Args:
        grid: a ``Grid``, or any iterable of workloads.
        out: folder for ``records.jsonl``; it is created if it does not exist.
        repeats: number of runs that measure each workload's time.
        device: device of every step, instead of the workload's own device.
        deadline_seconds: seconds after which a worker process is stopped.
        executor: object that runs the cells; by default, cells run one at a time on this machine.
        progress: object that shows the progress; by default nothing is shown.

    Returns:
        The folder of the records, which ``harness.load`` can read.

    Raises:
        ArgumentError: ``grid`` has an item that is not a workload.
        StoreError: the folder cannot be used, or has records of another device.
        LaunchError: no worker process can be started.

    >>> import tempfile, harness
    >>> tiny = harness.Workload(width=8, in_features=8)
    >>> grid = harness.Grid(base=tiny, axes={"batch": [4, 8]})
    >>> folder = harness.sweep(grid, out=tempfile.mkdtemp(), repeats=1)
    >>> harness.load(folder)["saved_bytes"].tolist()
    [452, 900]
    """
    if isinstance(grid, Workload):
        raise ArgumentError("grid must be a harness.Grid or a list of workloads, got a Workload")
    cells = [check_workload(cell) for cell in grid]
    check_choice("device", device, ("cpu", "cuda"))
    folder = Path(out)
    experiment = Experiment(
        name=folder.name,
        title=folder.name,
        question="",
        cells=lambda _: cells,
        repeats=repeats,
        analyse=_no_analysis,
    )
    run(
        experiment,
        Size.DEFAULT,
        folder.resolve().parent,
        progress or Silent(),
        device=device,
        deadline_seconds=deadline_seconds,
        executor=executor,
    )
    return folder


def _no_analysis(evidence: "Evidence") -> "Section":
    raise NotImplementedError(f"{evidence.folder} is a grid, not an experiment")


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
    """Run the jobs of ``experiment`` that have no stored result; return job counts by outcome.

    If the run is interrupted, the same call resumes it. ``executor`` runs the cells; by default,
    cells run one at a time on this machine. Jobs other than cells, such as threshold searches,
    always run one at a time on this machine.
    """
    folder = out / experiment.name
    _refuse_other_device(folder, device)
    with ExitStack() as stack:
        used = executor or stack.enter_context(closing(make_executor()))
        parts: list[_Part[Any, Any]] = []
        kinds: tuple[tuple[Runner[Any, Any], list[Any]], ...] = (
            (StepRunner(used), _cells(experiment, size, device, deadline_seconds)),
            (ThresholdRunner(deadline_seconds), list(experiment.thresholds(size, device))),
            (TrainingRunner(deadline_seconds), _placed(experiment.training_runs(size), device)),
            (
                TracedRunner(deadline_seconds, experiment.steps_from),
                list(experiment.step_jobs(size)),
            ),
        )
        for runner, jobs in kinds:
            if jobs:
                stack.enter_context(closing(runner))
                store = stack.enter_context(LineStore(folder, runner.line))
                parts.append(_Part(runner, store, runner.prepared(jobs, store.is_finished)))
        if not parts:
            what = "no cells, thresholds or training runs"
            raise StoreError(f"{experiment.name}: nothing to measure: {what} of size {size.value}")
        keep_origin(folder, experiment)  # the folder is there, and no other sweep writes to it
        cells, left = sum(len(part.names) for part in parts), sum(len(part.left) for part in parts)
        notes = [note for part in parts for note in part.notes]
        progress.begin(experiment.name, cells=cells, done=cells - left, notes=notes)
        meter = _Meter(progress, left)
        for part in parts:
            part.run(meter)
        return sum((part.outcomes() for part in parts), Counter[str]())


def _given(experiment: Experiment, name: Literal["cells", "traced"], size: Size) -> list[Workload]:
    """Return the workloads that a function of the experiment returns.

    Raises:
        ExperimentError: the function fails, or does not return workloads.
    """
    try:
        given = getattr(experiment, name)(size)
        if not isinstance(given, Iterable):
            raise ArgumentError(f"must return a Grid or workloads, got a {type(given).__name__}")
        return [check_workload(cell, "each cell") for cell in given]
    except Exception as error:
        what = "" if isinstance(error, HarnessError) else f"{type(error).__name__}: "
        place = users_place(error) or f"{experiment.name}.py: {name}"
        raise ExperimentError(f"{place}: {what}{error}") from error


def _cells(experiment: Experiment, size: Size, device: str, deadline_seconds: float) -> list[Cell]:
    traced = {cell.replace(device=device).id for cell in _given(experiment, "traced", size)}
    placed = [cell.replace(device=device) for cell in _given(experiment, "cells", size)]
    return [
        Cell(
            workload=workload,
            repeats=experiment.repeats,
            deadline_seconds=deadline_seconds,
            keep_events=name in traced,
            servers_by_seed=experiment.servers_by_seed,
            fresh_servers=experiment.fresh_servers,
        )
        for name, workload in {cell.id: cell for cell in placed}.items()
    ]


def _placed(jobs: Iterable[TrainingJob], device: str) -> list[TrainingJob]:
    return [dataclasses.replace(job, workload=job.workload.replace(device=device)) for job in jobs]


def _refuse_other_device(folder: Path, device: str) -> None:
    """Raise an error if the folder has records of another device."""
    for path in folder.glob("*.jsonl"):
        check_plain(path)
        with path.open("rb") as lines, suppress(ValueError, KeyError, TypeError):
            kept = json.loads(lines.readline())["workload"].get("device", "cpu")
            if kept != device:
                rule = f"holds records of device {kept}; give --out another folder for {device}"
                raise StoreError(f"out: {str(folder)!r}: {rule}")


class StepRunner(Runner[Cell, Record]):
    """Measures cells whose predicted memory fits, and refuses all other cells."""

    line = Record

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def capacity(self) -> int:
        """Return the executor's capacity."""
        return self._executor.capacity()

    def submit(self, job: Cell, attempt: int) -> "Future[Measured]":
        """Start to measure ``job``, or refuse it if its predicted memory does not fit."""
        room_bytes = self._executor.room_bytes(job.workload)
        if room_bytes is not None and job.workload.device == "cpu":
            needed = needed_bytes(job.workload)
            if needed > room_bytes:
                # Attempt 0 and an outcome of its own: it must never pass for a measured failure.
                record = Record(
                    workload_id=job.workload.id,
                    workload=job.workload,
                    outcome=Outcome.REFUSED,
                    evidence={
                        "message": "predicted to fit into no place there is; nothing was run",
                        "needed_bytes": needed,
                        "room_bytes": room_bytes,
                    },
                    attempt=0,
                    environment=cast("Environment", origin_of_line()),
                )
                return ended(record)
            job = dataclasses.replace(job, needed_bytes=needed)
        return self._executor.submit(job, attempt)

    def check(self) -> None:
        """Let the executor handle cells that no longer respond."""
        self._executor.check()

    def describe(self, line: Record) -> str:
        """Return the workload, outcome and peak in one line."""
        peak = line.peak_live_bytes
        known = "" if peak is None else f", peak {format_bytes(peak)}"
        return f"{line.workload}: {line.outcome}{known}"


class _Part(Generic[Job, Line]):
    """Submits the jobs of one kind, stores their results, and repeats lost or killed jobs."""

    def __init__(
        self, runner: Runner[Job, Line], store: LineStore[Line], jobs: Sequence[Job]
    ) -> None:
        self._runner = runner
        self._store = store
        self.names = [job.cell_id for job in jobs]
        self.left = deque(job for job in jobs if not store.is_finished(job.cell_id))
        self._running: dict[Future[tuple[Line, Trace | None]], Job] = {}
        self.notes = [*(f"repaired: {repair}" for repair in store.repairs), *runner.notes]

    def outcomes(self) -> Counter[str]:
        """Return the number of jobs with each outcome."""
        return Counter[str](self._store.last_outcome(name) for name in self.names)

    def run(self, meter: "_Meter") -> None:
        """Run until all jobs have ended."""
        while self.left or self._running:
            while self.left and len(self._running) < self._runner.capacity():
                job = self.left.popleft()
                attempt = self._store.attempts(job.cell_id) + 1
                self._running[self._runner.submit(job, attempt)] = job
            if not self._running:
                time.sleep(CHECK_SECONDS)  # no place for a job just now
            else:
                wait(self._running, timeout=CHECK_SECONDS, return_when=FIRST_COMPLETED)
            done = [future for future in self._running if future.done()]
            # What was measured is kept before an exception may end the sweep.
            for future in sorted(done, key=lambda future: future.exception() is not None):
                self._settle(future, meter)
            self._runner.check()

    def _settle(self, future: "Future[tuple[Line, Trace | None]]", meter: "_Meter") -> None:
        job = self._running.pop(future)
        line, trace = future.result()
        if trace is not None:
            self._store.write_events(job.cell_id, trace)
        self._store.append(line)
        finished = self._store.is_finished(job.cell_id)
        if not finished:
            self.left.appendleft(job)
        meter.ended(self._runner.describe(line), finished=finished)


class _Meter:
    """Shows a sweep's progress, and estimates the remaining time from the finished jobs."""

    def __init__(self, progress: Progress, jobs: int) -> None:
        self._progress = progress
        self._jobs = jobs
        self._done = 0
        self._started = time.monotonic()

    def ended(self, description: str, *, finished: bool) -> None:
        """Show the result of an attempt; ``finished`` is True if the job is done."""
        self._done += finished
        left = self._jobs - self._done
        taken = time.monotonic() - self._started
        seconds_left = taken / self._done * left if self._done else None
        self._progress.cell(description, left=left, seconds_left=seconds_left)

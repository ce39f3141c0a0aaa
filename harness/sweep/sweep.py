"""Runs an experiment's cells through an executor, keeps each record, resumes by itself."""

import dataclasses
import itertools
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import harness
from harness.measurement.measure import DEADLINE_SECONDS
from harness.prediction.predict_workload import predict
from harness.schema.experiment import Experiment, Size
from harness.schema.record import Outcome, Record
from harness.schema.workload import Workload
from harness.sweep.executors import Cell, Executor, Measured, make_executor
from harness.sweep.store import Store, StoreError

CHECK_SECONDS = 1.0
"""How often an executor is asked whether anything fell silent."""
_STEP_FLOPS_PER_SECOND = 3e10
_CELL_SECONDS = 0.1


class Progress(Protocol):
    """Told of a sweep as it goes."""

    def begin(self, experiment: str, *, cells: int, done: int, repairs: Sequence[str]) -> None:
        """Say that a sweep of ``cells`` begins, of which ``done`` are there already."""

    def cell(self, record: Record, *, left: int, seconds_left: float | None) -> None:
        """Say that a cell ended, how many are left and about how long they will take."""


def run(
    experiment: Experiment,
    size: Size,
    out: Path,
    progress: Progress,
    *,
    device: str = "cpu",
    deadline_seconds: float = DEADLINE_SECONDS,
    executor: Executor | None = None,
) -> None:
    """Measure every cell of ``experiment`` on ``device`` that ``out`` does not hold yet.

    Interrupted at any point, the same call goes on where it stopped. Without an ``executor``
    cells run here, one at a time. An experiment that measures in its own way uses none.

    Raises:
        StoreError, SchemaError: the folder cannot be used, or has records of another device.
        ExecutorError: the engine is gone.
        LaunchError: no worker process can be started at all.

    """
    _refuse_other_device(out / experiment.name, device)
    if experiment.run is not None:
        experiment.run(size, device, out / experiment.name, progress, deadline_seconds)
        return
    placed = [cell.replace(device=device) for cell in experiment.cells(size)]
    workloads = list({cell.id: cell for cell in placed}.values())
    kept = experiment.traced(size) if experiment.traced else ()
    traced = {cell.replace(device=device).id for cell in kept}
    with Store(out / experiment.name) as store, _used(executor) as engine:
        left = [cell for cell in workloads if not store.is_finished(cell.id)]
        done = len(workloads) - len(left)
        progress.begin(experiment.name, cells=len(workloads), done=done, repairs=store.repairs)
        cells = (
            Cell(
                workload=cell,
                repeats=experiment.repeats,
                deadline_seconds=deadline_seconds,
                keep_events=cell.id in traced,
            )
            for cell in left
        )
        _Sweep(store, engine, progress, cells).run()


def _refuse_other_device(folder: Path, device: str) -> None:
    """Keep the records of two devices apart: no analysis could tell them from each other.

    Raises:
        StoreError: the first line of a file in ``folder`` is of another device.

    """
    for path in folder.glob("*.jsonl"):
        with path.open("rb") as lines, suppress(ValueError, KeyError, TypeError):
            found = json.loads(lines.readline())["workload"].get("device", "cpu")
            if found != device:
                rule = f"holds records of device {found}; give --out another folder for {device}"
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


class _Sweep:
    """The coordinator: hands out cells, writes what comes back, tries accidents again."""

    def __init__(
        self, store: Store, executor: Executor, progress: Progress, cells: Iterable[Cell]
    ) -> None:
        self._store = store
        self._executor = executor
        self._progress = progress
        self._left = deque(cells)
        self._running: dict[Future[Measured], Cell] = {}
        self._clock = _Clock(sum(_work(cell.workload) for cell in self._left))

    def run(self) -> None:
        """Measure until nothing is left."""
        while self._left or self._running:
            self._submit()
            if not self._running:
                time.sleep(CHECK_SECONDS if self._left else 0)  # no place for a cell just now
            else:
                wait(self._running, timeout=CHECK_SECONDS, return_when=FIRST_COMPLETED)
            ended = [future for future in self._running if future.done()]
            # What was measured is kept before an exception may end the sweep.
            for future in sorted(ended, key=lambda future: future.exception() is not None):
                self._settle(future)
            self._executor.check()

    def _submit(self) -> None:
        while self._left and len(self._running) < self._executor.capacity():
            cell = self._left.popleft()
            room_bytes = self._executor.room_bytes(cell.workload)
            if room_bytes is not None:
                needed_bytes = predict(cell.workload).peak_live_bytes
                cell = dataclasses.replace(cell, needed_bytes=needed_bytes)
                if needed_bytes is not None and needed_bytes > room_bytes:
                    self._keep(_refused(cell.workload, needed_bytes, room_bytes), cell)
                    continue
            attempt = self._store.attempts(cell.workload.id) + 1
            self._running[self._executor.submit(cell, attempt)] = cell

    def _settle(self, future: "Future[Measured]") -> None:
        cell = self._running.pop(future)
        record, trace = future.result()
        if trace is not None:
            self._store.write_events(record.workload_id, trace)
        self._keep(record, cell)

    def _keep(self, record: Record, cell: Cell) -> None:
        self._store.append(record)
        if not self._store.is_finished(record.workload_id):
            self._left.appendleft(cell)
        else:
            self._clock.add(cell.workload)
        left = len(self._left) + len(self._running)
        self._progress.cell(record, left=left, seconds_left=self._clock.left())


def _refused(workload: Workload, needed_bytes: int, room_bytes: int) -> Record:
    """Return the record of a cell that is predicted to fit nowhere and was not run.

    Attempt 0 and an outcome of its own: it must never pass for a measured failure.
    """
    evidence = {
        "message": "predicted to fit into no place there is; nothing was run",
        "needed_bytes": needed_bytes,
        "room_bytes": room_bytes,
    }
    return Record(
        workload_id=workload.id,
        workload=workload,
        outcome=Outcome.REFUSED,
        evidence=evidence,
        attempt=0,
        environment={
            "harness": harness.__version__,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


class _Clock:
    """Estimates what is left from how long the cells so far took for their arithmetic.

    The first one only starts the clock: it pays for the forkserver's start.
    """

    def __init__(self, work: float) -> None:
        self._started: float | None = None
        self._left = work
        self._done = 0.0

    def add(self, workload: Workload) -> None:
        work = _work(workload)
        self._left -= work
        if self._started is None:
            self._started = time.monotonic()
        else:
            self._done += work

    def left(self) -> float | None:
        if self._started is None or not self._done:
            return None
        return max(0.0, self._left) * (time.monotonic() - self._started) / self._done


def _work(workload: Workload) -> float:
    """Return a guess of a cell's seconds, right up to a factor that the clock learns."""
    widths = (workload.in_features, *workload.widths, workload.classes)
    products = sum(a * b for a, b in itertools.pairwise(widths)) * workload.batch
    flops = products * (6 if workload.mode == "train" else 2)
    return _CELL_SECONDS + 7 * flops / _STEP_FLOPS_PER_SECOND

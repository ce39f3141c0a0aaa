"""Runs an experiment's cells one after the other, keeps each record, resumes by itself."""

import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.execution.launcher import Launcher, default_launcher
from harness.execution.measure import DEADLINE_SECONDS, measure_traced
from harness.execution.store import MAX_ATTEMPTS, Store
from harness.experiment import Experiment, Size
from harness.record import Record
from harness.workload import Workload

_STEP_FLOPS_PER_SECOND = 3e10
_CELL_SECONDS = 0.1


class Progress(Protocol):
    """Told of a sweep as it goes."""

    def begin(self, experiment: str, *, cells: int, done: int, repairs: Sequence[str]) -> None:
        """Say that a sweep of ``cells`` begins, of which ``done`` are there already."""

    def cell(self, record: Record, *, left: int, seconds_left: float | None) -> None:
        """Say that a cell ended, how many are left and about how long they will take."""


@dataclass
class _Clock:
    """Estimates what is left from how long the cells so far took for their arithmetic."""

    spent_seconds: float = 0.0
    spent_work: float = 0.0

    def add(self, workload: Workload, seconds: float) -> None:
        self.spent_seconds += seconds
        self.spent_work += _work(workload)

    def left(self, workloads: Sequence[Workload]) -> float | None:
        if not self.spent_work:
            return None
        return sum(map(_work, workloads)) * self.spent_seconds / self.spent_work


def _work(workload: Workload) -> float:
    """Return a guess of a cell's seconds, right up to a factor that the clock learns."""
    widths = (workload.in_features, *workload.widths, workload.classes)
    products = sum(a * b for a, b in itertools.pairwise(widths)) * workload.batch
    flops = products * (6 if workload.mode == "train" else 2)
    return _CELL_SECONDS + 7 * flops / _STEP_FLOPS_PER_SECOND


def run(
    experiment: Experiment,
    size: Size,
    out: Path,
    progress: Progress,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> None:
    """Measure every cell of ``experiment`` that ``out`` does not hold yet.

    Interrupted at any point, the same call goes on where it stopped.

    Raises:
        StoreError, SchemaError: the folder cannot be used.
        LaunchError: no worker process can be started at all.

    """
    if experiment.run is not None:
        experiment.run(size, out / experiment.name, progress, deadline_seconds)
        return
    cells = list({cell.id: cell for cell in experiment.cells(size)}.values())
    traced = {cell.id for cell in experiment.traced(size)} if experiment.traced else set()
    with Store(out / experiment.name) as store, _Launchers() as launchers:
        left = [cell for cell in cells if not store.is_finished(cell.id)]
        progress.begin(
            experiment.name, cells=len(cells), done=len(cells) - len(left), repairs=store.repairs
        )
        clock = _Clock()
        while left:
            cell = left.pop(0)
            started = time.monotonic()
            for record in _attempts(
                cell, cell.id in traced, experiment.repeats, deadline_seconds, store, launchers
            ):
                clock.add(cell, time.monotonic() - started)
                progress.cell(record, left=len(left), seconds_left=clock.left(left))


def _attempts(
    cell: Workload,
    traced: bool,
    repeats: int,
    deadline_seconds: float,
    store: Store,
    launchers: "_Launchers",
) -> list[Record]:
    """Measure one cell until it is finished; every attempt is a record."""
    records = []
    while not store.is_finished(cell.id) and store.attempts(cell.id) < MAX_ATTEMPTS:
        record, trace = measure_traced(
            cell,
            repeats=repeats,
            deadline_seconds=deadline_seconds,
            launcher=launchers.of(cell.malloc),
            keep_events=traced,
            attempt=store.attempts(cell.id) + 1,
        )
        if trace is not None:
            store.write_events(cell.id, trace)
        store.append(record)
        records.append(record)
    return records


class _Launchers(ExitStack):
    """One launcher per malloc policy, started when first needed, all ended together."""

    def __init__(self) -> None:
        super().__init__()
        self._by_policy: dict[str, Launcher] = {}

    def of(self, malloc: str) -> Launcher:
        if malloc not in self._by_policy:
            self._by_policy[malloc] = launcher = default_launcher(malloc)
            self.callback(launcher.close)
        return self._by_policy[malloc]

"""Runs cells on this machine in separate processes, up to ``jobs`` cells at a time."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from msgspec.structs import replace

from harness.measurement.measure import measure_traced
from harness.processes.environment import pretended_device
from harness.processes.launcher import Launcher, LaunchError, default_launcher
from harness.processes.limits.machine_memory import limit_bytes
from harness.processes.measuring_code import measuring_code
from harness.schema.workload import Workload
from harness.sweeps.runner import Cell, Executor, Measured

_ONE_AT_A_TIME = threading.Lock()


class LocalExecutor(Executor):
    """Runs up to ``jobs`` cells at a time in separate processes.

    A cell waits until its predicted memory is free. Cells on a GPU run one at a time.
    """

    name = "local"

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="cell")
        self._slots = [Slot() for _ in range(jobs)]
        self._free = list(self._slots)
        self._machine_bytes = limit_bytes()
        self._memory = _Memory(self._machine_bytes)

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        """Measure ``cell`` as soon as a slot and enough memory are free."""
        try:
            return self._threads.submit(self._measure, cell, attempt)
        except RuntimeError as error:  # a limit on processes holds for threads too
            raise LaunchError(f"no thread can be started: {error}") from error

    def _measure(self, cell: Cell, attempt: int) -> Measured:
        slot = self._free.pop()  # there are as many as threads
        try:
            with self._memory.taken(cell):
                return slot.measure(
                    cell, attempt, self.name, jobs=self.jobs, disturbed=self.jobs > 1
                )
        finally:
            self._free.append(slot)

    def capacity(self) -> int:
        """Return the number of cells that can run at the same time."""
        return self.jobs

    def room_bytes(self, workload: Workload) -> int | None:
        """Return the machine's memory plus swap, or the cgroup's limit; None for cells on a GPU."""
        return self._machine_bytes if workload.device == "cpu" else None

    def close(self) -> None:
        """End running cells and their processes."""
        for slot in self._slots:
            slot.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for slot in self._slots:
            slot.close()


class Slot:
    """Runs one cell at a time, with a launcher for each malloc policy."""

    def __init__(self, launcher: Launcher | None = None) -> None:
        self._launchers = {} if launcher is None else dict.fromkeys(("pinned", "system"), launcher)
        self._seeds: dict[str, int] = {}
        """For each malloc policy, the seed of the last cell whose ``servers_by_seed`` was True."""
        self._stopped = False
        with _ONE_AT_A_TIME:  # two threads that parse at once disturb each other in Python 3.11
            measuring_code(pretended=pretended_device() is not None)

    def measure(
        self, cell: Cell, attempt: int, executor: str, *, jobs: int, disturbed: bool
    ) -> Measured:
        """Measure ``cell`` in separate processes; only one thread at a time may call this method.

        ``disturbed`` is True if cells that run at the same time may disturb the measurement. For a
        disturbed measurement, RSS, times and the GPU's memory outside the allocator are null, and
        the repeats are left out. The allocators' byte metrics are always exact.
        """
        workload = cell.workload
        launcher = self.launcher(workload.malloc)
        if cell.servers_by_seed and self._seeds.get(workload.malloc) != workload.seed:
            launcher.close()  # a fork server of its own starts with the next job
            self._seeds[workload.malloc] = workload.seed
        record, trace = measure_traced(
            workload,
            repeats=cell.repeats,
            deadline_seconds=cell.deadline_seconds,
            launcher=launcher,
            fresh_servers=cell.fresh_servers,
            keep_events=cell.keep_events,
            attempt=attempt,
        )
        environment = record.environment | {"executor": executor, "jobs": jobs}
        record = replace(record, environment=environment)
        if disturbed:
            unsure = ("rss_rise_bytes", "rss_peak_bytes", "process", "host", "wall_seconds")
            record = replace(
                record,
                passes={name: one for name, one in record.passes.items() if name not in unsure},
                repeats=(),
                cuda=record.cuda and replace(record.cuda, outside_bytes=None),
                **dict.fromkeys(unsure),
            )
        return record, trace

    def launcher(self, malloc: str) -> Launcher:
        """Return the launcher for a malloc policy, and create the launcher if it does not exist."""
        if malloc not in self._launchers:
            self._launchers[malloc] = default_launcher(malloc)
        launcher = self._launchers[malloc]
        if self._stopped:  # stop() may have come before this launcher was there
            launcher.stop()
        return launcher

    def stop(self) -> None:
        """End running processes, and start no more jobs; any thread may call this method."""
        self._stopped = True
        for launcher in list(self._launchers.values()):
            launcher.stop()

    def close(self) -> None:
        """End the launchers."""
        for launcher in self._launchers.values():
            launcher.close()


class _Memory:
    """Delays a cell until its predicted bytes are free, or until no other cell runs."""

    def __init__(self, total_bytes: int) -> None:
        self._left_bytes = total_bytes
        self._running = 0
        self._on_gpu = False
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, cell: Cell) -> Iterator[None]:
        needed_bytes = cell.needed_bytes or 0
        gpu = cell.workload.device == "cuda"

        def may_begin() -> bool:
            fits = needed_bytes <= self._left_bytes or not self._running
            return fits and not (gpu and self._on_gpu)

        with self._changed:
            self._changed.wait_for(may_begin)
            self._left_bytes -= needed_bytes
            self._running += 1
            self._on_gpu |= gpu
        try:
            yield
        finally:
            with self._changed:
                self._left_bytes += needed_bytes
                self._running -= 1
                self._on_gpu &= not gpu
                self._changed.notify_all()

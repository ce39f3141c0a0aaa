"""Runs cells on an existing Dask cluster, or on a new Dask cluster on this machine.

Each cell runs in child processes of a Dask worker; the child processes end with the worker. Dask
never repeats a cell. If a worker is lost, the attempt gets the outcome ``lost``, and the sweep
tries the cell again, if possible on another worker. Several cells may run on the same host of a
cluster, so RSS and times are null.
"""

import contextlib
import gc
import os
import signal
import time
import uuid
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, cast

import dask
import msgspec
from distributed import Client, KilledWorker, LocalCluster

from harness.processes.launcher import GRACE_SECONDS, LaunchError
from harness.schema.errors import HarnessError
from harness.schema.events import Event, Trace
from harness.schema.provenance import Environment
from harness.schema.record import Outcome, Record
from harness.schema.workload import Workload
from harness.sweeps.executors.dask_task import CellAnswer, measure_cell
from harness.sweeps.runner import Cell, Executor, ExecutorError, Measured, origin_of_line
from harness.version import __version__

CONNECT_SECONDS = 30.0
"""Timeout for a reply from the Dask scheduler, in seconds."""
WORKER_SECONDS = 300.0
"""Seconds for which a sweep waits for a worker if the cluster has none."""
SILENT_SECONDS = 30
"""If a worker sends no message for this number of seconds, its cell gets the outcome ``lost``."""
_VIEW_SECONDS = 0.5
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-ttl": f"{SILENT_SECONDS}s",
    "distributed.scheduler.worker-saturation": 1.0,
    # So long after a worker was lost Dask looks once, and gives up the one that restarts just then.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}
_ALLOWED = "distributed.scheduler.allowed-failures"
_VARIABLE = "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=0"
_RESUME = "every finished cell is kept, the same command goes on"


class _Worker(msgspec.Struct, frozen=True):
    """Description of a Dask worker, read from the scheduler."""

    name: str | int
    nthreads: int
    memory_limit: int
    resources: dict[str, float]
    status: str


@dataclass(kw_only=True)
class _Sent:
    """A cell that was sent to the cluster."""

    cell: Cell
    attempt: int
    future: "Future[Measured]" = field(default_factory=Future)
    key: str = ""
    only_at: frozenset[str] = frozenset()
    """Addresses of the workers that may run the cell; empty if any worker may run it."""
    task: Any = None
    started: float = 0.0


class DaskExecutor(Executor):
    """Sends cells to the workers of a Dask cluster, one cell for each worker thread."""

    name = "dask"

    def __init__(self, client: Client, own: contextlib.ExitStack | None = None) -> None:
        self._client = client
        self._own = own or contextlib.ExitStack()
        self._sent: dict[str, _Sent] = {}
        self._lost_at: defaultdict[str, set[str]] = defaultdict(set)
        """For each workload id, the names of the workers that lost the cell of this workload."""
        self._workers: dict[str, _Worker] = {}
        self._seen = -_VIEW_SECONDS
        self._had_workers = time.monotonic()

    @classmethod
    def connect(cls, address: str) -> Self:
        """Use the cluster whose scheduler listens at ``address``."""
        said = ""
        try:
            executor = cls(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except Exception as error:  # of many types: without certificates, or on a busy machine
            said = str(error) or type(error).__name__
        if said:
            gc.collect()  # the half-made client's end, now: within another's start it would hang
            raise ExecutorError(f"scheduler: {address!r}: {said}")
        try:
            allowed = executor._ask(lambda dask_scheduler: int(dask_scheduler.allowed_failures))
            if allowed != 0:
                rule = f"start the scheduler with {_VARIABLE}: only the harness tries again"
                raise ExecutorError(f"scheduler: {address!r}: {_ALLOWED} is {allowed}; {rule}")
        except BaseException:
            executor.close()
            raise
        return executor

    @classmethod
    def start(cls, jobs: int) -> Self:
        """Start a scheduler and ``jobs`` workers on this machine; ``close`` ends them."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(dask.config.set(_SETTINGS))  # some are read when workers are lost
            with warnings.catch_warnings(action="ignore"):  # of a port that is taken
                cluster = LocalCluster(
                    n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=50
                )
            stack.callback(_end, cluster)
            client = Client(cluster, set_as_default=False)
            return cls(client, stack.pop_all())

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        """Send ``cell`` to a worker, if possible to a worker that has not lost this cell before."""
        sent = _Sent(cell=cell, attempt=attempt)
        self._send(sent)
        return sent.future

    def _send(self, sent: _Sent) -> None:
        cell, jobs = sent.cell, max(1, self.capacity())
        lost_at = self._lost_at.get(cell.workload.id, set())
        others = [at for at, worker in self._workers.items() if str(worker.name) not in lost_at]
        sent.only_at = frozenset(others) if lost_at else frozenset()
        sent.key = f"harness-{cell.workload.id}-{sent.attempt}-{uuid.uuid4()}"
        sent.started = time.monotonic()
        self._sent[sent.key] = sent
        try:
            sent.task = self._client.submit(
                measure_cell,
                msgspec.json.encode((cell, sent.attempt, jobs)),
                key=sent.key,
                pure=False,
                retries=0,
                workers=sorted(sent.only_at) or None,  # as a rule: a wish would be stolen away
                resources=self._needs(cell),
            )
        except Exception as error:  # Dask closes in many ways
            raise ExecutorError(f"scheduler: {error}; {_RESUME}") from error
        sent.task.add_done_callback(partial(self._ended, sent.key))

    def _needs(self, cell: Cell) -> dict[str, float] | None:
        """Return the Dask resources that a cell needs, if any worker declares such resources."""
        declared = {name for worker in self._workers.values() for name in worker.resources}
        needs: dict[str, float] = {}
        if cell.workload.device == "cuda" and "GPU" in declared:
            needs["GPU"] = 1
        if cell.needed_bytes is not None and "MEMORY" in declared:
            needs["MEMORY"] = cell.needed_bytes
        return needs or None

    def capacity(self) -> int:
        """Return the total number of threads of all workers."""
        self._look()
        return sum(worker.nthreads for worker in self._workers.values())

    def room_bytes(self, workload: Workload) -> int | None:
        """Return the largest memory of a worker, by its resource ``MEMORY`` or its memory limit."""
        self._look()
        on_gpu = workload.device == "cuda"
        rooms = [
            int(worker.resources.get("MEMORY", 0 if on_gpu else worker.memory_limit))
            for worker in self._workers.values()
            if "GPU" in worker.resources or not on_gpu
        ]
        return max(rooms) if rooms and all(rooms) else None

    def check(self) -> None:
        """Send a cell again if all workers that may run it have left the cluster."""
        self._look()
        if time.monotonic() - self._had_workers > WORKER_SECONDS:
            raise ExecutorError(f"scheduler: no worker for {WORKER_SECONDS:.0f} s; {_RESUME}")
        for sent in list(self._sent.values()):
            stranded = sent.only_at and not sent.only_at & self._workers.keys()
            if stranded and self._sent.pop(sent.key, None) is not None:
                sent.task.cancel(force=True)
                self._send(sent)

    def close(self) -> None:
        """Disconnect from the cluster, and end a cluster that this process started."""
        with contextlib.suppress(TimeoutError):
            self._client.close(timeout=GRACE_SECONDS)
        self._own.close()

    def _look(self) -> None:
        """Update the list of workers, no more than twice a second."""
        if time.monotonic() - self._seen < _VIEW_SECONDS:
            return
        seen = self._ask(lambda dask_scheduler: dask_scheduler.identity()["workers"])
        workers = msgspec.convert(seen, dict[str, _Worker]).items()
        self._workers = {at: worker for at, worker in workers if worker.status == "running"}
        self._seen = time.monotonic()
        if self._workers:
            self._had_workers = self._seen

    def _ask(self, question: Callable[..., Any]) -> Any:
        """Run the function ``question`` on the scheduler, and return the function's result."""
        try:
            return self._client.sync(
                self._client._run_on_scheduler, question, callback_timeout=CONNECT_SECONDS
            )
        except Exception as error:  # Dask closes in many ways
            raise _stopped(error) from error

    def _ended(self, key: str, task: Any) -> None:
        """Convert a Dask task's result to a record or an error; called in one of Dask's threads."""
        sent = self._sent.pop(key, None)
        if sent is None:
            return
        try:
            answer = msgspec.json.decode(task.result(timeout=CONNECT_SECONDS), type=CellAnswer)
        except KilledWorker as error:
            self._lose(sent, "the worker that ran it was lost", str(error.last_worker.name))
        except BaseException as error:
            sent.future.set_exception(_stopped(error))
        else:
            if answer.harness != __version__:
                other = f"has harness {answer.harness}, this is {__version__}: install the same"
                sent.future.set_exception(ExecutorError(f"Dask worker {answer.worker} {other}"))
            elif answer.mistake is not None:
                sent.future.set_exception(HarnessError(answer.mistake))
            elif answer.record is None:
                self._not_begun(sent, str(answer.launch_error), str(answer.worker))
            else:
                events = answer.events
                trace = Trace([Event(*row) for row in events]) if events else None
                sent.future.set_result((answer.record, trace))

    def _not_begun(self, sent: _Sent, message: str, worker: str) -> None:
        """Record a lost attempt; if no worker can start processes, record an error instead."""
        tried = self._lost_at[sent.cell.workload.id] | {worker}
        if all(str(other.name) in tried for other in self._workers.values()):
            sent.future.set_exception(LaunchError(f"Dask worker {worker}: {message}"))
        else:
            self._lose(sent, message, worker)

    def _lose(self, sent: _Sent, message: str, worker: str) -> None:
        """Record an attempt with the outcome ``lost``."""
        workload = sent.cell.workload
        self._lost_at[workload.id].add(worker)
        seconds = time.monotonic() - sent.started
        record = Record(
            workload_id=workload.id,
            workload=workload,
            outcome=Outcome.LOST,
            evidence={"message": message, "worker": worker, "seconds": seconds},
            attempt=sent.attempt,
            environment=cast("Environment", origin_of_line() | {"executor": self.name}),
        )
        sent.future.set_result((record, None))


def _end(cluster: LocalCluster) -> None:
    """End the cluster that this process started; kill the cluster's workers after a timeout."""
    nannies = list(cluster.workers.values())
    try:
        cluster.close(timeout=GRACE_SECONDS)
    except TimeoutError:
        for nanny in nannies:
            if nanny.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)


def _stopped(error: BaseException) -> ExecutorError:
    words = " ".join(str(error).split()) or type(error).__name__
    return ExecutorError(f"scheduler: {words}; {_RESUME}")

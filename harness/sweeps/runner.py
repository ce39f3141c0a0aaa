"""Interfaces: a ``Runner`` runs jobs of one kind, and an ``Executor`` measures cells."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

from harness.schema.errors import HarnessError
from harness.schema.events import Trace
from harness.schema.record import KeptLine, Record
from harness.schema.workload import Workload
from harness.version import __version__


class HasCellId(Protocol):
    """A job with an id, under which its result is stored."""

    @property
    def cell_id(self) -> str:
        """Id of the job; equal jobs have equal ids."""


Job = TypeVar("Job", bound=HasCellId)
Line = TypeVar("Line", bound=KeptLine)


class Runner(ABC, Generic[Job, Line]):
    """Runs jobs of one kind, up to ``capacity()`` jobs at a time."""

    line: type[Line]
    """Type of the results."""
    notes: tuple[str, ...] = ()
    """Notes that are shown to the user before the jobs begin."""

    def prepared(self, jobs: list[Job], is_finished: Callable[[str], bool]) -> list[Job]:
        """Return the jobs to run; ``is_finished`` returns True for the id of a finished job."""
        del is_finished
        return jobs

    def capacity(self) -> int:
        """Return the largest number of jobs that run or wait at the same time."""
        return 1

    @abstractmethod
    def submit(self, job: Job, attempt: int) -> "Future[tuple[Line, Trace | None]]":
        """Start ``job``; the future returns the result and, if requested, the trace."""

    @abstractmethod
    def describe(self, line: Line) -> str:
        """Describe a result in one line."""

    def check(self) -> None:  # most have nothing to do
        """Handle jobs that no longer respond; the sweep calls this about once a second."""

    def close(self) -> None:
        """End the processes that this runner started."""


def origin_of_line() -> dict[str, str]:
    """Return the harness's version and the current time, for a record without a measurement."""
    return {"harness": __version__, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def ended(line: Line, trace: Trace | None = None) -> "Future[tuple[Line, Trace | None]]":
    """Return a finished future with the result ``line``."""
    future: Future[tuple[Line, Trace | None]] = Future()
    future.set_result((line, trace))
    return future


Measured = tuple[Record, Trace | None]
"""Result of one attempt: its record and, if requested, the allocation trace."""


class ExecutorError(HarnessError):
    """Raised if the executor cannot continue; finished cells are kept."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One workload, with the predicted memory and the settings of the measurement."""

    workload: Workload
    repeats: int
    """Number of runs that measure time and RSS, without a trace."""
    deadline_seconds: float
    """Deadline of each of the cell's two processes, in seconds."""
    keep_events: bool = False
    servers_by_seed: bool = False
    """True if each seed has its own fork server."""
    fresh_servers: bool = False
    """True if each run of the cell has its own fork server."""
    needed_bytes: int | None = None
    """Predicted peak of live bytes; None without a prediction."""

    @property
    def cell_id(self) -> str:
        """The workload's id."""
        return self.workload.id


class Executor(Protocol):
    """Measures cells, up to ``capacity()`` cells at a time.

    The sweep, not the executor, writes records to files and repeats attempts. Every attempt returns
    a record, even a failed attempt.
    """

    name: str

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        """Start to measure ``cell``; the future returns the result of the attempt."""

    def capacity(self) -> int:
        """Return the largest number of submitted cells that may be unfinished at the same time."""
        return 1

    def room_bytes(self, workload: Workload) -> int | None:
        """Return how many bytes of memory ``workload`` can use; None if the number is unknown."""
        del workload
        return None

    def check(self) -> None:
        """Handle cells that no longer respond; the sweep calls this about once a second."""
        return

    def close(self) -> None:
        """End every process of this executor, also the processes of running cells."""
        return

"""Interfaces of a runner, which runs one kind of job, and of an executor, which measures cells."""

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


class Named(Protocol):
    """A job with the name under which its result is stored."""

    @property
    def cell_id(self) -> str:
        """Name of the job, equal for equal jobs."""


Job = TypeVar("Job", bound=Named)
Line = TypeVar("Line", bound=KeptLine)


class Runner(ABC, Generic[Job, Line]):
    """Runs jobs of one kind, up to ``capacity()`` of them at once."""

    line: type[Line]
    """Kind of the results."""
    notes: tuple[str, ...] = ()
    """Notes for the user before the jobs begin."""

    def prepared(self, jobs: list[Job], is_finished: Callable[[str], bool]) -> list[Job]:
        """Return the jobs as they will run; ``is_finished`` is true for a stored result."""
        del is_finished
        return jobs

    def capacity(self) -> int:
        """Return the largest number of jobs that run or wait at the same time."""
        return 1

    @abstractmethod
    def submit(self, job: Job, attempt: int) -> "Future[tuple[Line, Trace | None]]":
        """Begin ``job``; the future ends with the result and, if requested, the events."""

    @abstractmethod
    def describe(self, line: Line) -> str:
        """Return a result in one line."""

    def check(self) -> None:  # most have nothing to do
        """Handle jobs that no longer respond; called about once a second while jobs run."""

    def close(self) -> None:
        """End the processes that this runner started."""


def origin_of_line() -> dict[str, str]:
    """Return the version and the time, for a line that this process made."""
    return {"harness": __version__, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def ended(line: Line, trace: Trace | None = None) -> "Future[tuple[Line, Trace | None]]":
    """Return a future that has ended with ``line``."""
    future: Future[tuple[Line, Trace | None]] = Future()
    future.set_result((line, trace))
    return future


Measured = tuple[Record, Trace | None]
"""One attempt: its record and, if requested and recorded, the allocation trace."""


class ExecutorError(HarnessError):
    """The executor cannot continue; finished cells are kept, and the same command resumes."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One workload with the settings of its measurement and its predicted need."""

    workload: Workload
    repeats: int
    """Number of passes without instruments."""
    deadline_seconds: float
    """Seconds that each of the cell's two processes may take."""
    keep_events: bool = False
    servers_by_seed: bool = False
    """True if a fork server measures only the cells of one seed."""
    fresh_servers: bool = False
    """True if each pass has its own fork server."""
    needed_bytes: int | None = None
    """Predicted peak of live bytes; None if it cannot be predicted."""

    @property
    def cell_id(self) -> str:
        """The workload's id."""
        return self.workload.id


class Executor(Protocol):
    """Measures cells, up to ``capacity()`` of them at once.

    Only the sweep writes records, not the executor. Every attempt ends as a record, also if it
    failed. Only the sweep repeats an attempt.
    """

    name: str

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        """Begin to measure ``cell``; the future ends with its attempt."""

    def capacity(self) -> int:
        """Return the number of cells that may be submitted and not ended at present."""
        return 1

    def room_bytes(self, workload: Workload) -> int | None:
        """Return the largest memory that ``workload`` can get; None if unknown."""
        del workload
        return None

    def check(self) -> None:
        """Handle cells that no longer respond; called about once a second while cells run."""
        return

    def close(self) -> None:
        """End every process of this executor, also of running cells."""
        return

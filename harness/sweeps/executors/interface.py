"""The interface of executors.

An executor measures cells and writes nothing: only the sweep, the coordinator, writes records.
Every attempt ends as a record, whatever became of it; an executor never repeats one by itself.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from harness.schema.errors import HarnessError
from harness.schema.events import Trace
from harness.schema.record import Record
from harness.schema.workload import Workload

Measured = tuple[Record, Trace | None]
"""One attempt: its record and, where asked for and taken, the allocation trace."""


class ExecutorError(HarnessError):
    """The executor cannot go on; every finished cell is kept and the same command resumes."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One workload with how to measure it and what it needs."""

    workload: Workload
    repeats: int
    """Instrument-free passes."""
    deadline_seconds: float
    """What one of the cell's two processes may take."""
    keep_events: bool = False
    needed_bytes: int | None = None
    """Predicted peak of live bytes; None where it cannot be predicted."""

    @property
    def cell_id(self) -> str:
        """The workload's id."""
        return self.workload.id


class Executor(Protocol):
    """Measures cells, up to ``capacity()`` of them at once."""

    name: str

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        """Begin to measure ``cell``; the future ends with what became of it."""

    def capacity(self) -> int:
        """Return how many cells may be submitted and not ended, just now."""
        return 1

    def room_bytes(self, workload: Workload) -> int | None:
        """Return the memory of the largest place for ``workload``; None where unknown."""
        del workload
        return None

    def check(self) -> None:
        """Settle what fell silent; called about once a second while cells run."""
        return

    def close(self) -> None:
        """End every process that was started for this executor, running cells included."""
        return

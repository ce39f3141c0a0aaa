"""The interface of a kind of job: how to run one, and how to keep its result."""

from concurrent.futures import Future
from typing import Protocol, TypeVar

from harness.schema.events import Trace
from harness.sweeps.store import Kept, Kind

Job = TypeVar("Job", contravariant=True)
Line = TypeVar("Line", bound=Kept)


class Runner(Protocol[Job, Line]):
    """Runs jobs of one kind, up to ``capacity()`` of them at once."""

    kind: Kind[Line]
    """The file that the results are kept in."""

    def cell_id(self, job: Job) -> str:
        """Return the name by which the result of ``job`` is kept."""

    def seconds(self, job: Job) -> float:
        """Return a guess of how long ``job`` takes; only ratios of guesses matter."""

    def capacity(self) -> int:
        """Return how many jobs may be submitted and not ended, just now."""

    def submit(self, job: Job, attempt: int) -> "Future[tuple[Line, Trace | None]]":
        """Begin ``job``; the future ends with the result and, if asked for, the events."""

    def check(self) -> None:
        """Settle what fell silent; called about once a second while jobs run."""

    def describe(self, line: Line) -> str:
        """Return a result in one line."""

    def close(self) -> None:
        """End the processes that this runner started itself."""


def ended(line: Line) -> "Future[tuple[Line, Trace | None]]":
    """Return a future that has ended with ``line``."""
    future: Future[tuple[Line, Trace | None]] = Future()
    future.set_result((line, None))
    return future

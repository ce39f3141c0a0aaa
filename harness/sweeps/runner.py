"""The interface of a kind of job: how to run one, and how to keep its result."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from harness.schema.events import Trace
from harness.sweeps.store import Kept, Kind
from harness.version import __version__

Job = TypeVar("Job")
Line = TypeVar("Line", bound=Kept)


class Runner(Protocol[Job, Line]):
    """Runs jobs of one kind, up to ``capacity()`` of them at once."""

    kind: Kind[Line]
    """The file that the results are kept in."""

    guess_seconds: float = 1.0
    """Guess for every job of a kind whose jobs differ little."""
    notes: tuple[str, ...] = ()
    """Notes for the user before the jobs begin."""

    def prepared(self, jobs: list[Job], is_finished: Callable[[str], bool]) -> list[Job]:
        """Return the jobs as they will run; ``is_finished`` says which results are kept."""
        del is_finished
        return jobs

    def cell_id(self, job: Job) -> str:
        """Return the name by which the result of ``job`` is kept."""

    def seconds(self, job: Job) -> float:
        """Return a guess of how long ``job`` takes; only ratios of guesses matter."""
        del job
        return self.guess_seconds

    def capacity(self) -> int:
        """Return how many jobs may be submitted and not ended, just now: 1 unless overridden."""
        return 1

    def submit(self, job: Job, attempt: int) -> "Future[tuple[Line, Trace | None]]":
        """Begin ``job``; the future ends with the result and, if asked for, the events."""

    def check(self) -> None:
        """Settle what fell silent, if anything can; called about once a second while jobs run."""
        return

    def describe(self, line: Line) -> str:
        """Return a result in one line."""

    def close(self) -> None:
        """End the processes that this runner started itself."""
        return


def origin_of_line() -> dict[str, str]:
    """Return the version and the time, for a line that no worker process has made."""
    return {"harness": __version__, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def ended(line: Line) -> "Future[tuple[Line, Trace | None]]":
    """Return a future that has ended with ``line``."""
    future: Future[tuple[Line, Trace | None]] = Future()
    future.set_result((line, None))
    return future

"""Runs jobs one at a time on this machine, each in separate processes."""

from abc import abstractmethod
from concurrent.futures import Future

from harness.schema.events import Trace
from harness.sweeps.executors.local import Slot
from harness.sweeps.runner import Job, Line, Runner, ended


class LocalRunner(Runner[Job, Line]):
    """Runs each job when it is submitted, and keeps the launchers for later jobs."""

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._slot = Slot()

    def submit(self, job: Job, attempt: int) -> "Future[tuple[Line, Trace | None]]":
        """Run ``job`` at once; the returned future is already done."""
        return ended(self.run(job, attempt))

    @abstractmethod
    def run(self, job: Job, attempt: int) -> Line:
        """Run ``job`` and return its result."""

    def close(self) -> None:
        """End the launchers."""
        self._slot.close()

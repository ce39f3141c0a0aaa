"""Fork servers that the tests of one process lend to each other.

A fork server loads torch for seconds, and every fork of it is as pristine as the first: a test that
asks for a launcher gets one whose processes have the environment that its own would have.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.processes.launch import OnPhase, environment_of_child
from harness.processes.launcher import ForkLauncher, Launcher
from harness.processes.messages import Answer, Ended, Failure, Work

Environment = tuple[str, frozenset[tuple[str, str]]]


class LentLauncher:
    """A launcher that goes back to the others when a test closes it."""

    name = ForkLauncher.name

    def __init__(self, malloc: str, idle: "list[LentLauncher]") -> None:
        self._own = ForkLauncher(malloc)
        self._thread = ThreadPoolExecutor(1)  # a server dies with the thread that started it
        self._idle = idle
        self._runs = self._stopped = self._spent = False

    @property
    def server_pid(self) -> int:
        """The process that forks its workers; there after the first job."""
        assert self._own._server is not None
        return self._own._server.pid

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        """Run ``job`` to its end, or kill it at the deadline."""
        self._runs = True
        try:
            if self._stopped:
                self._stop()
            return self._thread.submit(self._own.launch, job, deadline_seconds, on_phase).result()
        finally:
            self._runs = False

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""
        self._stopped = True
        if self._runs:
            self._stop()

    def _stop(self) -> None:
        self._spent = True
        self._own.stop()

    def close(self) -> None:
        """Wait for the next test that asks; a launcher that ended a job has ended itself."""
        self._stopped = False
        if self._spent:
            self.end()
        elif self not in self._idle:
            self._idle.append(self)

    def end(self) -> None:
        """End its processes."""
        self._own.close()
        self._thread.shutdown()


class LentLaunchers:
    """The launchers that nobody uses, by the environment of their processes."""

    def __init__(self) -> None:
        self._idle: dict[Environment, list[LentLauncher]] = {}

    def lend(self, malloc: str) -> Launcher:
        """Return a launcher that nobody else uses until it is closed."""
        variables = environment_of_child(malloc)
        variables.pop("PYTEST_CURRENT_TEST", None)
        key = (malloc, frozenset(variables.items()))
        idle = self._idle.setdefault(key, [])
        return idle.pop() if idle else LentLauncher(malloc, idle)

    def end(self) -> None:
        """End all that wait."""
        for idle in self._idle.values():
            for launcher in idle:
                launcher.end()


class Planted:
    """A launcher that notes its jobs and starts none: they end as a function of the job says."""

    name = "planted"

    def __init__(self, end: Callable[[Any], Ended[Any]]) -> None:
        self._end = end
        self.jobs: list[Any] = []

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        del deadline_seconds, on_phase
        self.jobs.append(job)
        ended: Ended[Answer] = self._end(job)
        return ended

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


OOM: Ended[Any] = Ended(
    exit_code=1, failure=Failure(type="MemoryError", message="", out_of_memory=True)
)

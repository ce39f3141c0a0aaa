"""Parts of every launcher: its interface, the environment of its processes, and their output."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

import msgspec

from harness.processes.malloc_policy import ENVIRONMENT
from harness.processes.messages import Answer, Ended, Failure, Message, Work
from harness.schema.errors import UnavailableError

_TAIL_BYTES = 2000

OnPhase = Callable[[str], object]
"""Function that is called with each phase when a worker begins the phase."""


class LaunchError(UnavailableError):
    """No worker process can be started, for example because of a limit; the message says why.

    >>> import harness
    >>> def measured(step):
    ...     try:
    ...         return harness.measure(step)
    ...     except harness.UnavailableError as error:
    ...         print(f"end some processes, then try again: {error}")
    """


class Launcher(Protocol):
    """Runs jobs, one at a time, each in a process of its own."""

    name: str

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        """Run ``job`` to its end, or kill it at the deadline; call ``on_phase`` for each phase."""

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further job."""
        return

    def close(self) -> None:
        """End every process that this launcher started."""
        return


def environment_of_child(malloc: str) -> dict[str, str]:
    """Return a worker's environment; its malloc variables come only from the malloc policy."""
    sets_malloc = ("MALLOC_", "GLIBC_TUNABLES")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(sets_malloc)}
    extra = {
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for a GPU must not initialise CUDA
        "PYTHONUNBUFFERED": "1",
    }
    return inherited | ENVIRONMENT[malloc] | extra


@contextlib.contextmanager
def as_launch_error() -> Iterator[None]:
    """Raise LaunchError if the system has no process, file or memory left for a worker."""
    try:
        yield
    except OSError as error:
        raise LaunchError(f"no worker process can be started: {error}") from error


class Report:
    """The output of a worker so far."""

    def __init__(self, on_phase: OnPhase | None = None) -> None:
        self._on_phase = on_phase
        self.phase: str | None = None
        self.result: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self._rest: list[bytes] = []
        self._decoder = msgspec.json.Decoder(Message)

    def feed(self, data: bytes) -> None:
        """Add bytes; skip a line that is not a message, such as a torn last line."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest = []
        self._rest.append(rest)
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                message = self._decoder.decode(line)
                self.phase = message.phase or self.phase
                if message.phase and self._on_phase is not None:
                    self._on_phase(message.phase)
                self.result = message.result if message.result is not None else self.result
                self.failure = message.failure or self.failure

    def ended(self, errors: IO[bytes], started: float, **how: Any) -> Ended[Any]:
        """Return the end of the process with its messages and output."""
        return Ended(
            phase=self.phase,
            result=self.result,
            failure=self.failure,
            stderr_tail=tail(errors),
            seconds=time.monotonic() - started,
            **how,
        )


def tail(errors: IO[bytes]) -> str:
    """Return the end of a process's output, without the profiler's own messages."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL_BYTES))
    lines = errors.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("USDT:"))

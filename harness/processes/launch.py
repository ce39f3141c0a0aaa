"""Defines the interface and the shared code of launchers, which start worker processes."""

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
"""Function that is called with the name of a phase when a worker begins the phase."""


class LaunchError(UnavailableError):
    """No worker process can be started, e.g. because of a limit; the message gives the reason.

    >>> import harness
    >>> def measured(step):
    ...     try:
    ...         return harness.measure(step)
    ...     except harness.UnavailableError as error:
    ...         print(f"end some processes, then try again: {error}")
    """


class Launcher(Protocol):
    """Runs jobs one after the other, each job in a separate process."""

    name: str

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        """Run ``job`` until it ends or its deadline passes; call ``on_phase`` for each phase."""

    def stop(self) -> None:
        """Kill the job that another thread waits for, and refuse later jobs."""
        return

    def close(self) -> None:
        """End all processes that this launcher started."""
        return


def environment_of_child(malloc: str) -> dict[str, str]:
    """Return the environment variables of a worker, including those of the malloc policy."""
    sets_malloc = ("MALLOC_", "GLIBC_TUNABLES")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(sets_malloc)}
    extra = {
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for a GPU must not initialise CUDA
        "PYTHONUNBUFFERED": "1",
    }
    return inherited | ENVIRONMENT[malloc] | extra


@contextlib.contextmanager
def as_launch_error() -> Iterator[None]:
    """Convert an OSError inside the ``with`` block to a LaunchError."""
    try:
        yield
    except OSError as error:
        raise LaunchError(f"no worker process can be started: {error}") from error


class Report:
    """Collects the messages of a worker process."""

    def __init__(self, on_phase: OnPhase | None = None) -> None:
        self._on_phase = on_phase
        self.phase: str | None = None
        self.result: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self._rest: list[bytes] = []
        self._decoder = msgspec.json.Decoder(Message)

    def feed(self, data: bytes) -> None:
        """Decode the messages in ``data``, and skip lines that are not messages."""
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
        """Return an ``Ended`` with the messages, the output and the exit status of the process."""
        return Ended(
            phase=self.phase,
            result=self.result,
            failure=self.failure,
            stderr_tail=tail(errors),
            seconds=time.monotonic() - started,
            **how,
        )


def tail(errors: IO[bytes]) -> str:
    """Return the last 2,000 bytes of a process's output, without messages of the profiler."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL_BYTES))
    lines = errors.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("USDT:"))

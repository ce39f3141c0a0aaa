"""The interface of every launcher, and the environment that its processes start with."""

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

from harness.measurement.malloc_settings import ENVIRONMENT
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.worker_output import OnPhase
from harness.schema.errors import UnavailableError


class LaunchError(UnavailableError):
    """No worker process can be started at all, such as under a limit; the message says why.

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

    def launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None = None) -> Ended:
        """Run ``job`` to its end, or kill it at the deadline; ``on_phase`` may hear of phases."""

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""
        return

    def close(self) -> None:
        """End every process that this launcher started."""
        return


def environment_of_child(malloc: str) -> dict[str, str]:
    """Return the environment of a worker: ours, with the malloc policy's variables alone."""
    inherited = {k: v for k, v in os.environ.items() if not _sets_malloc(k)}
    extra = {
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for a GPU must not initialise CUDA
        "PYTHONUNBUFFERED": "1",
    }
    return inherited | ENVIRONMENT[malloc] | extra


def _sets_malloc(variable: str) -> bool:
    """Return whether an environment variable changes glibc's malloc behind the policy's back."""
    return variable.startswith("MALLOC_") or variable == "GLIBC_TUNABLES"


@contextlib.contextmanager
def as_launch_error() -> Iterator[None]:
    """Name the cause where the system has no process, file or memory left to begin with."""
    try:
        yield
    except OSError as error:
        raise LaunchError(f"no worker process can be started: {error}") from error

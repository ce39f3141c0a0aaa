"""Messages between the parent process and a worker process."""

from typing import Any, ClassVar, Generic, TypedDict, TypeVar

import msgspec
from msgspec import Struct

from harness.schema.provenance import Environment
from harness.schema.workload import Workload

Answer = TypeVar("Answer")


class Described(TypedDict):
    """Result with the part of the environment that only a worker process can determine."""

    environment: Environment


class Work(Struct, Generic[Answer], frozen=True, kw_only=True):
    """Job for one worker process; each subclass declares the type of the job's result."""

    def as_call(self) -> "Call":
        """Convert the job to the ``Call`` that is sent to the worker process."""
        raise NotImplementedError


class Call(Work[dict[str, Any]], frozen=True, kw_only=True):
    """Makes a worker call ``function`` with ``request`` and a function that reports phases.

    ``function`` is a name, ``module:function``, so the parent process need not import the module.
    """

    function: str
    request: bytes
    device: str
    malloc: str
    asks_host: bool = False
    """True if the result contains the host memory of the worker process."""
    inject: str | None = None
    """Failure that the job simulates, for tests and ``harness measure --inject``."""

    def as_call(self) -> "Call":
        """Return this call."""
        return self


class OfWorkload(Work[Answer], frozen=True, kw_only=True):
    """Base class of jobs for a workload."""

    done_by: ClassVar[str]
    """Name of the worker function that runs the job; ``doing`` decorates the function."""

    workload: Workload
    inject: str | None = None

    def as_call(self) -> Call:
        """Convert the job to the ``Call`` that is sent to the worker process."""
        return Call(
            function=self.done_by,
            request=msgspec.json.encode(self),
            device=self.workload.device,
            malloc=self.workload.malloc,
            inject=self.inject,
        )


class Describe(OfWorkload[Described], frozen=True, kw_only=True):
    """Makes a worker return its environment, without running a step."""

    done_by = "harness.processes.workload_job:described"


class Failure(Struct, frozen=True, kw_only=True):
    """Exception that ended a job in the worker process."""

    type: str
    message: str
    out_of_memory: bool
    users_mistake: bool = False
    is_unsupported: bool = False
    """True if the harness does not support the request, although the user made no mistake."""
    place: str | None = None
    """Line of the user's code that led to the failure, if this line is known."""
    gpu_memory: dict[str, int] | None = None
    """Total, free, reserved and other bytes of the GPU at the failure, if CUDA was in use."""


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Message from a worker about a new phase, a result or a failure."""

    phase: str | None = None
    result: dict[str, Any] | None = None
    failure: Failure | None = None


class Ended(Struct, Generic[Answer], frozen=True, kw_only=True):
    """Result or failure of a worker process, as the parent process sees it.

    ``exit_code`` is negative if a signal ended the process, and None if it is unknown.
    """

    exit_code: int | None
    timed_out: bool = False
    result: Answer | None = None
    failure: Failure | None = None
    phase: str | None = None
    stderr_tail: str = ""
    seconds: float = 0.0
    lost: str | None = None
    """Reason why the exit code is unknown, e.g. the end of the fork server."""
    fork_server: str | None = None
    """Random name of the fork server, new at each start; None without a fork server."""
    oom_kills: int = 0
    """Number of processes in the worker's cgroup that the kernel's OOM killer killed."""

"""Messages between the parent and a worker: plain data, no torch."""

from typing import Any, ClassVar, Generic, TypedDict, TypeVar

import msgspec
from msgspec import Struct

from harness.schema.provenance import Environment
from harness.schema.workload import Workload

Answer = TypeVar("Answer")


class Described(TypedDict):
    """The part of the environment that only a worker knows."""

    environment: Environment


class Work(Struct, Generic[Answer], frozen=True, kw_only=True):
    """The work of one process; each kind of work states the type of its answer."""

    def as_call(self) -> "Call":
        """Return the work in the form that a worker gets."""
        raise NotImplementedError


class Call(Work[dict[str, Any]], frozen=True, kw_only=True):
    """``function``, named ``module:function``, is called with ``request`` and a phase manager.

    The caller only names the function and does not load it.
    """

    function: str
    request: bytes
    device: str
    malloc: str
    asks_host: bool = False
    """True if the answer says how much of the host's memory the process takes."""
    inject: str | None = None
    """Failure that the job must end with, for tests and ``harness measure --inject``."""

    def as_call(self) -> "Call":
        """Return this call."""
        return self


class OfWorkload(Work[Answer], frozen=True, kw_only=True):
    """The common part of all work on a workload."""

    done_by: ClassVar[str]
    """Name of the function that does the work in a worker; see ``doing``."""

    workload: Workload
    inject: str | None = None

    def as_call(self) -> Call:
        """Return the work in the form that a worker gets."""
        return Call(
            function=self.done_by,
            request=msgspec.json.encode(self),
            device=self.workload.device,
            malloc=self.workload.malloc,
            inject=self.inject,
        )


class Describe(OfWorkload[Described], frozen=True, kw_only=True):
    """Request for the environment of the workload's steps; no step runs."""

    done_by = "harness.processes.workload_job:described"


class Failure(Struct, frozen=True, kw_only=True):
    """An exception that ended a job, as the worker saw it."""

    type: str
    message: str
    out_of_memory: bool
    users_mistake: bool = False
    is_unsupported: bool = False
    """True if the harness cannot answer, although the user made no mistake."""
    place: str | None = None
    """Line of the user's code that led to the failure, if there is one."""
    gpu_memory: dict[str, int] | None = None
    """Holders of the GPU's memory at the failure, if a GPU was in use."""


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line from worker to parent: a phase that begins, a result, or a failure."""

    phase: str | None = None
    result: dict[str, Any] | None = None
    failure: Failure | None = None


class Ended(Struct, Generic[Answer], frozen=True, kw_only=True):
    """The end of a worker's process, as the parent saw it.

    ``exit_code`` is negative for a signal and None if the process was lost from sight.
    """

    exit_code: int | None
    timed_out: bool = False
    result: Answer | None = None
    failure: Failure | None = None
    phase: str | None = None
    stderr_tail: str = ""
    seconds: float = 0.0
    lost: str | None = None
    """Reason why the process was lost from sight, such as the fork server's own end."""
    fork_server: str | None = None
    """Name of the process's fork server, different after each start; None without a server."""
    oom_kills: int = 0
    """Number of processes in the worker's own cgroup that the kernel killed for memory."""

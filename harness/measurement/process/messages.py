"""Messages between the parent and a worker: plain data, no torch."""

from typing import Any, Literal

from msgspec import Struct

from harness.schema.training_run import TrainingPlan
from harness.schema.workload import Workload


class Work(Struct, frozen=True, kw_only=True):
    """One process's worth of work.

    ``passes``: instrument-free passes, then the saved-tensor pass. ``trace``: the allocation
    trace. ``probe``: build and two whole steps (one in inference), nothing else; within
    ``budget_bytes``, enforced by ``budget_kind`` (for a cgroup: in the folder ``cgroup``).
    ``describe``: the environment alone. ``call``: the function that ``function`` names, called
    with ``request``.
    """

    kind: Literal["passes", "trace", "probe", "training_run", "describe", "call"]
    workload: Workload
    repeats: int = 1
    first_repeat: int = 0
    """Number of the first of them, if other processes make the others."""
    keep_events: bool = False
    budget_bytes: int | None = None
    budget_kind: Literal["rlimit", "cgroup", "allocator", "card"] = "rlimit"
    cgroup: str | None = None
    whole_process: bool = False
    """The probe's budget has to hold what a process adds of its own too: nothing is readied."""
    inject: str | None = None
    run: TrainingPlan | None = None
    """What a ``training_run`` does; nothing else reads it."""
    function: str = ""
    """``module:function``, which takes the request and a phase manager and returns plain data."""
    request: bytes = b""


class Failure(Struct, frozen=True, kw_only=True):
    """An exception that ended a job, as the worker saw it."""

    type: str
    message: str
    out_of_memory: bool
    users_mistake: bool = False
    is_unsupported: bool = False
    """True if the harness cannot answer, which is nobody's mistake."""
    place: str | None = None
    """The line of the user's that led to it, where there is one."""
    gpu_memory: dict[str, int] | None = None
    """Who held the GPU's memory then, where one was in use."""


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line from worker to parent: a phase that begins, a result, or a failure."""

    phase: str | None = None
    result: dict[str, Any] | None = None
    failure: Failure | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """The end of a worker's process, as the parent saw it.

    ``exit_code`` is negative for a signal and None where the process was lost from sight.
    """

    exit_code: int | None
    timed_out: bool = False
    result: dict[str, Any] | None = None
    failure: Failure | None = None
    phase: str | None = None
    stderr_tail: str = ""
    seconds: float = 0.0
    lost: str | None = None
    """Why nothing is known of the process, such as the forkserver's own end."""
    fork_server: str | None = None
    """Name of the fork server that forked it, another one after each start; None without."""
    oom_kills: int = 0
    """Processes of the worker's own cgroup that the kernel killed for memory."""

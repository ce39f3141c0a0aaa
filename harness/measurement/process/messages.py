"""Messages between the parent and a worker: plain data, no torch."""

from typing import Any, Generic, NotRequired, TypedDict, TypeVar

from msgspec import Struct

from harness.schema.host import Host
from harness.schema.provenance import Environment
from harness.schema.threshold import Enforcement
from harness.schema.training_run import TrainingPlan
from harness.schema.workload import Workload

Answer = TypeVar("Answer")


class Passes(TypedDict):
    """The repeats of the passes without an instrument, and the metrics of saved tensors."""

    repeats: list[dict[str, Any]]
    metrics: dict[str, Any]
    environment: Environment
    process: NotRequired[dict[str, int]]
    """On the CPU: the parts of the process that are neither tensors nor heap."""
    cuda: NotRequired[dict[str, Any]]
    host: Host | None


class Traced(TypedDict):
    """The metrics of an allocation trace, and its events if they were wanted."""

    metrics: dict[str, Any]
    events: list[list[Any]] | None


class Needed(TypedDict):
    """The bytes that two steps needed; None where the kernel does not tell."""

    needed_bytes: int | None
    limit_bytes: NotRequired[int]
    """The data segment that holds a whole process."""


class Described(TypedDict):
    """The environment that only a worker knows."""

    environment: Environment


class Work(Struct, Generic[Answer], frozen=True, kw_only=True):
    """One process's worth of work; each kind says what its answer is."""


class OfWorkload(Work[Answer], frozen=True, kw_only=True):
    """The part of all work on a workload."""

    workload: Workload
    inject: str | None = None
    """A failure to end with, for tests and ``harness measure --inject``."""

    @property
    def device(self) -> str:
        """The workload's device."""
        return self.workload.device

    @property
    def malloc(self) -> str:
        """The workload's malloc policy."""
        return self.workload.malloc


class RunPasses(OfWorkload[Passes], frozen=True, kw_only=True, tag=True):
    """Instrument-free passes, then the saved-tensor pass."""

    repeats: int = 1
    first_repeat: int = 0
    """Number of the first of them, if other processes make the others."""
    deadline_seconds: float = 600.0
    """A disturbed step is run again only if the job can still end before them."""


class TraceWorkload(OfWorkload[Traced], frozen=True, kw_only=True, tag=True):
    """The allocation trace."""

    keep_events: bool = False


class Probe(OfWorkload[Needed], frozen=True, kw_only=True, tag=True):
    """Build and two whole steps (one in inference), nothing else, within a budget if it has one."""

    budget_bytes: int | None = None
    kind: Enforcement = "rlimit"
    cgroup: str | None = None
    """Folder of the cgroup that the process joins, if the budget is a cgroup's."""
    whole_process: bool = False
    """The budget has to hold what a process adds of its own too: nothing is readied."""


class Train(OfWorkload[dict[str, Any]], frozen=True, kw_only=True, tag=True):
    """A whole training run; the answer has the fields of a ``TrainingResult``, and environment."""

    plan: TrainingPlan


class Describe(OfWorkload[Described], frozen=True, kw_only=True, tag=True):
    """The environment of the workload's steps; none is run."""


class Call(Work[dict[str, Any]], frozen=True, kw_only=True, tag=True):
    """``function``, named ``module:function``, is called with ``request`` and a phase manager."""

    function: str
    request: bytes
    device: str
    malloc: str
    asks_host: bool = False
    """True if the answer says how much of the host's memory the process takes."""


AnyWork = RunPasses | TraceWorkload | Probe | Train | Describe | Call


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


class Ended(Struct, Generic[Answer], frozen=True, kw_only=True):
    """The end of a worker's process, as the parent saw it.

    ``exit_code`` is negative for a signal and None where the process was lost from sight.
    """

    exit_code: int | None
    timed_out: bool = False
    result: Answer | None = None
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

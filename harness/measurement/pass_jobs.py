"""Types of the requests to the workers that measure a workload, and of the workers' results."""

from typing import Any, NotRequired, TypedDict

from harness.processes.messages import OfWorkload
from harness.schema.host import Host
from harness.schema.provenance import Environment


class Passes(TypedDict):
    """Result of ``RunPasses``: what each plain repeat measured, and metrics of saved tensors."""

    repeats: list[dict[str, Any]]
    metrics: dict[str, Any]
    environment: Environment
    process: NotRequired[dict[str, int]]
    """Parts of the process's memory that are neither tensors nor heap, in bytes (CPU only)."""
    cuda: NotRequired[dict[str, Any]]
    host: Host | None


class Traced(TypedDict):
    """Result of ``TraceWorkload``: metrics of an allocation trace, and its events if requested."""

    metrics: dict[str, Any]
    events: list[list[Any]] | None


class RunPasses(OfWorkload[Passes], frozen=True, kw_only=True):
    """Request to run a workload without instruments, then once with saved-tensor hooks."""

    done_by = "harness.measurement.passes:measured"

    repeats: int = 1
    first_repeat: int = 0
    """Number of the first repeat; above 0 if other processes run the earlier repeats."""
    deadline_seconds: float = 600.0
    """Time limit of the job, in seconds; near the limit, disturbed steps are not repeated."""


class TraceWorkload(OfWorkload[Traced], frozen=True, kw_only=True):
    """Request to record the allocation trace of a workload."""

    done_by = "harness.measurement.passes:traced"

    keep_events: bool = False

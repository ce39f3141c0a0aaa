"""The requests of a workload's measurement to workers, and the answers; needs no torch."""

from typing import Any, NotRequired, TypedDict

from harness.processes.messages import OfWorkload
from harness.schema.host import Host
from harness.schema.provenance import Environment


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
    """The metrics of an allocation trace, and its events if requested."""

    metrics: dict[str, Any]
    events: list[list[Any]] | None


class RunPasses(OfWorkload[Passes], frozen=True, kw_only=True):
    """Request for the passes without an instrument, then the pass for saved tensors."""

    done_by = "harness.measurement.passes:measured"

    repeats: int = 1
    first_repeat: int = 0
    """Number of the first repeat, if other processes make other repeats."""
    deadline_seconds: float = 600.0
    """A disturbed step runs again only if the job can still end within these seconds."""


class TraceWorkload(OfWorkload[Traced], frozen=True, kw_only=True):
    """Request for the allocation trace."""

    done_by = "harness.measurement.passes:traced"

    keep_events: bool = False

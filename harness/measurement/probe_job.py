"""Types of the request to probe a workload within a budget, and of its result."""

from typing import NotRequired, TypedDict

from harness.processes.messages import OfWorkload
from harness.schema.threshold import Enforcement


class Needed(TypedDict):
    """Result of a probe: the bytes that the workload needed, or None if they are unknown."""

    needed_bytes: int | None
    limit_bytes: NotRequired[int]
    """Size of the data segment that the whole process needs."""


class Probe(OfWorkload[Needed], frozen=True, kw_only=True):
    """Request to build a workload and run its steps, within ``budget_bytes`` if it is given."""

    done_by = "harness.measurement.probe:run"

    budget_bytes: int | None = None
    kind: Enforcement = "rlimit"
    cgroup: str | None = None
    """Folder of the cgroup that the process joins, if a cgroup enforces the budget."""
    whole_process: bool = False
    """True if the budget is for the whole process; the heap is then not prepared in advance."""

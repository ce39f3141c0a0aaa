"""The request to a worker to try a workload within a budget, and the answer."""

from typing import NotRequired, TypedDict

from harness.processes.messages import OfWorkload
from harness.schema.threshold import Enforcement


class Needed(TypedDict):
    """The bytes that two steps needed; None if the kernel does not tell."""

    needed_bytes: int | None
    limit_bytes: NotRequired[int]
    """Data segment that a whole process needs."""


class Probe(OfWorkload[Needed], frozen=True, kw_only=True):
    """Request for the build and two steps (one in inference), within a budget if one is given."""

    done_by = "harness.measurement.probe:run"

    budget_bytes: int | None = None
    kind: Enforcement = "rlimit"
    cgroup: str | None = None
    """Folder of the cgroup that the process joins, if a cgroup enforces the budget."""
    whole_process: bool = False
    """True if the budget includes the process's own memory; then nothing is prepared."""

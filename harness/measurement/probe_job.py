"""A try of a workload within a budget, as a worker is asked for it, and the answer."""

from typing import NotRequired, TypedDict

from harness.processes.messages import OfWorkload
from harness.schema.threshold import Enforcement


class Needed(TypedDict):
    """The bytes that two steps needed; None if the kernel does not tell."""

    needed_bytes: int | None
    limit_bytes: NotRequired[int]
    """The data segment that holds a whole process."""


class Probe(OfWorkload[Needed], frozen=True, kw_only=True):
    """Build and two whole steps (one in inference), nothing else, within a budget if it has one."""

    done_by = "harness.measurement.probe:run"

    budget_bytes: int | None = None
    kind: Enforcement = "rlimit"
    cgroup: str | None = None
    """Folder of the cgroup that the process joins, if the budget is a cgroup's."""
    whole_process: bool = False
    """True if the budget includes what a process adds of its own; then nothing is prepared."""

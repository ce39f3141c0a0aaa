"""Builds and steps a workload within a budget: the worker's side of a threshold."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness import data, training
from harness.execution import budget, cgroup, room
from harness.execution.jobs import Job


def run(job: Job, fill: data.Fill, announce: training.Phase) -> dict[str, Any]:
    """Build and run two whole steps (one in inference) within the job's budget.

    Return ``needed_bytes``: by how much the address space grew at most, where the kernel
    tells and nothing else can have grown it.
    """
    steps = 1 if job.workload.mode == "inference" else 2
    with _within(job):
        before = _mappings()
        with announce("build"):
            built = training.build(job.workload, fill)
        for _ in range(steps):
            training.step(built, announce)
        after = _mappings()
    if before is None or after is None or after["VmPeak"] <= before["VmPeak"]:
        return {"needed_bytes": None}
    return {"needed_bytes": after["VmPeak"] - before["VmSize"]}


def _mappings() -> dict[str, int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return {name: budget.status_bytes(name) for name in ("VmPeak", "VmSize")}


@contextmanager
def _within(job: Job) -> Iterator[None]:
    """Ready the process and enforce the job's budget over the block."""
    if job.budget_bytes is None:
        yield
        return
    workload = job.workload
    if job.budget_kind == "allocator":
        with budget.caching_allocator(job.budget_bytes):
            yield
        return
    if workload.threads > 1 or workload.dtype != "float32":  # else the forkserver has done it
        room.prime_products(workload.dtype)
    room.settle(workload.malloc, workload.depth)
    if job.budget_kind == "rlimit":
        with budget.data_segment(job.budget_bytes):
            yield
        return
    assert job.cgroup is not None, "a job under a cgroup names it"
    with cgroup.joined(job.cgroup, job.budget_bytes):
        yield

"""Builds and steps a workload within a budget: the worker's side of a threshold."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from harness.measurement import passes
from harness.measurement.limits import cgroup, heap_headroom, rlimit
from harness.measurement.limits.held_memory import HeldMemory
from harness.measurement.malloc_library import refuse_replacement
from harness.measurement.process.messages import Job
from harness.training import data, training_step

_COPIED_LATER_BYTES = 24 * 4096
"""Memory that a process copies between its peak and its end: 8 to 39 pages were seen. It moves
where the search begins, not what it finds."""


def run(job: Job, fill: data.Fill, announce: training_step.Phase) -> dict[str, Any]:
    """Build and run two whole steps (one in inference) within the job's budget.

    On a GPU as many as ``harness measure`` runs up to the first measured one: until then
    each may reserve more. Return ``needed_bytes``: by how much the address space grew at
    most, where the kernel tells and nothing else can have grown it; on a GPU what the
    allocator reserved at most. In a cgroup ``held_bytes`` too: what it held at that moment.
    """
    if job.workload.device == "cuda":
        return _run_on_gpu(job, fill, announce)
    steps = 1 if job.workload.mode == "inference" else 2
    with _within(job) as in_group:
        before = _mappings()
        with announce("build"):
            built = training_step.build(job.workload, fill)
        for _ in range(steps):
            training_step.step(built, announce)
        held = None if in_group is None else in_group.bytes_now()
        after = _mappings()
    if before is None or after is None or after["VmPeak"] <= before["VmPeak"]:
        return {"needed_bytes": None}
    needed: dict[str, int] = {"needed_bytes": after["VmPeak"] - before["VmSize"]}
    if held is not None:
        unmapped = after["VmPeak"] - after["VmSize"]
        tables = unmapped // cgroup.MAPPED_BY_TABLES
        needed["held_bytes"] = held + unmapped + tables - _COPIED_LATER_BYTES
    return needed


def _run_on_gpu(job: Job, fill: data.Fill, announce: training_step.Phase) -> dict[str, Any]:
    limit: AbstractContextManager[None] = nullcontext()
    if job.budget_kind == "allocator" and job.budget_bytes is not None:
        limit = rlimit.caching_allocator(job.budget_bytes)
    with limit:
        with announce("build"):
            built = training_step.build(job.workload, fill)
        passes.warm_up(built, announce)
        training_step.step(built, announce)
    return {"needed_bytes": torch.cuda.max_memory_reserved()}


def _mappings() -> dict[str, int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return {name: rlimit.status_bytes(name) for name in ("VmPeak", "VmSize")}


@contextmanager
def _within(job: Job) -> Iterator[HeldMemory | None]:
    """Ready the process and enforce the job's budget over the block.

    Yields a counter of how much of the budget is used; None outside a cgroup.
    """
    if job.budget_bytes is None:
        yield None
        return
    refuse_replacement()
    workload = job.workload
    if workload.threads > 1 or workload.dtype != "float32":  # else the forkserver has done it
        heap_headroom.prime_products(workload.dtype)
    heap_headroom.settle(workload.malloc, workload.depth)
    if job.budget_kind == "rlimit":
        with rlimit.data_segment(job.budget_bytes):
            yield None
        return
    assert job.cgroup is not None, "a job under a cgroup names it"
    if workload.threads == 1:
        cgroup.stay_on_one_processor()
    with cgroup.joined(job.cgroup, job.budget_bytes) as held:
        yield held

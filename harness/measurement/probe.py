"""Runs a probe in a worker process: builds a workload and runs its steps within a memory budget."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.nn.modules.module import register_module_forward_hook

from harness.instruments.cuda_counters import StepPeaks
from harness.measurement import passes
from harness.measurement.probe_job import Needed, Probe
from harness.processes.limits import cgroup, heap_headroom, own_pages, rlimit
from harness.processes.malloc_policy import refuse_replacement
from harness.processes.workload_job import doing
from harness.training import data
from harness.training.module_step import Phase, run_step
from harness.training.training_step import build


@doing(Probe)
def run(job: Probe, announce: Phase) -> Needed:
    """Build a workload, and run two training steps or one inference step within the job's budget.

    On a GPU, steps run until the reserved memory stops rising, and then one more step runs. The
    result ``needed_bytes`` is None if it cannot be read. Otherwise it is:

    - under RLIMIT_DATA: the growth of the address space up to its peak;
    - in a cgroup: the growth of the address space without pages that nothing wrote to;
    - on a GPU: the allocator's peak of reserved bytes.

    For a whole process, ``limit_bytes`` is ``needed_bytes`` plus the initial data segment.
    """
    fill = data.source(job.workload)
    if job.workload.device == "cuda":
        return _run_on_gpu(job, fill, announce)
    before_bytes = rlimit.status_bytes("VmData") if job.whole_process else 0
    steps = 1 if job.workload.mode == "inference" else 2
    in_group = job.kind == "cgroup"
    with _within(job, announce) as phase:
        written = own_pages.written_bytes() if in_group else None
        before = _mappings()
        with phase("build"):
            built = build(job.workload, fill)
        for _ in range(steps):
            run_step(built, phase)
        after = _mappings()
        written_now = own_pages.written_bytes() if in_group else None
    if after["VmPeak"] <= before["VmPeak"]:
        return {"needed_bytes": None}
    if not in_group:
        needed = after["VmPeak"] - before["VmSize"]
        return {"needed_bytes": needed, "limit_bytes": before_bytes + needed}
    if written is None or written_now is None:
        return {"needed_bytes": None}
    return {"needed_bytes": written_now - written + after["VmPeak"] - after["VmSize"]}


def _run_on_gpu(job: Probe, fill: data.Fill, announce: Phase) -> Needed:
    limit: AbstractContextManager[None] = nullcontext()
    if job.kind == "allocator" and job.budget_bytes is not None:
        limit = rlimit.caching_allocator(job.budget_bytes)
    with limit:
        with announce("build"):
            built = build(job.workload, fill)
        passes.warm_up(built, announce, StepPeaks())
        run_step(built, announce)
    return {"needed_bytes": torch.cuda.max_memory_reserved()}


def _mappings() -> dict[str, int]:
    return {name: rlimit.status_bytes(name) for name in ("VmPeak", "VmSize")}


@contextmanager
def _within(job: Probe, announce: Phase) -> Iterator[Phase]:
    """Enforce the job's budget in a ``with`` block; yield the function that announces phases."""
    if job.budget_bytes is None:
        yield announce
        return
    refuse_replacement()
    workload = job.workload
    if job.whole_process:
        with rlimit.data_segment(job.budget_bytes):
            yield announce
        return
    if workload.threads > 1 or workload.dtype != "float32":  # else the forkserver has done it
        heap_headroom.prime_matmuls(workload.dtype)
    heap_headroom.settle(workload.malloc, workload.depth)
    if job.kind == "rlimit":
        with rlimit.data_segment(job.budget_bytes):
            yield announce
        return
    assert job.cgroup is not None, "a job under a cgroup names it"
    if workload.threads == 1:
        cgroup.stay_on_one_processor()
    own_pages.make_own()
    with _tables_awaited(workload.mode), cgroup.joined(job.cgroup, job.budget_bytes):
        yield _after_tables(announce)


def _after_tables(announce: Phase) -> Phase:
    @contextmanager
    def phase(name: str) -> Iterator[None]:
        own_pages.await_freed_tables()
        with announce(name):
            yield

    return phase


@contextmanager
def _tables_awaited(mode: str) -> Iterator[None]:
    """In inference, wait after each layer until the kernel has freed unused page tables.

    In inference, each layer frees its input. Training frees little before its peak, and does not
    wait.
    """

    def after(module: torch.nn.Module, *_: object) -> None:
        if not isinstance(module, torch.nn.Sequential):
            own_pages.await_freed_tables()

    if mode != "inference":
        yield
        return
    hook = register_module_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()

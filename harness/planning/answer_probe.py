"""Runs a step within a memory budget, in the worker process of a threshold search."""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from msgspec.structs import replace

from harness.dry_runs.left_out_values import leave_values_out
from harness.dry_runs.library_notes import ENGINE_MISSING, refusing_old_cudnn
from harness.dry_runs.memory_limit import limit_memory
from harness.dry_runs.value_places import listed
from harness.instruments.cuda_counters import steps_until_steady
from harness.planning.probe_question import LEAST_EXAMPLES, LargestByLiveBytes, ProbeStep
from harness.planning.step_answer import answering
from harness.planning.step_values import (
    has_own_inputs,
    refuse_what_is_not_pretended,
    use_gpu,
)
from harness.prediction.estimate.estimate_step import estimate_step
from harness.prediction.largest_value import HIGHEST, largest_within
from harness.processes.limits import heap_headroom, rlimit
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.units import format_bytes
from harness.training.module_step import Phase, run_step
from harness.training.own_step import OwnStep
from harness.training.requested_step import requested_step


@answering(ProbeStep)
def probed(question: ProbeStep, announce: Phase) -> dict[str, int | None]:
    """Run the step within the memory budget, and return the bytes that the step needed."""
    if question.gpus:
        leave_values_out()
    own = requested_step(question.request)
    if question.device == "cpu":
        return _on_cpu(own.with_values(), question.budget_bytes, announce)
    if not question.gpus:
        return _on_gpu(own.with_values(), _real_limit(question), announce)
    values = use_gpu(question, question.gpus[0], computes=has_own_inputs(own))
    limit_memory(question.budget_bytes)
    try:
        with refusing_old_cudnn():
            needed = _on_gpu(own, nullcontext(), announce)
    except torch.OutOfMemoryError:
        refuse_what_is_not_pretended()
        raise
    values.refuse_unknown_sizes()
    if places := values.made_up():
        raise UnsupportedError(f"it depends on values that nobody knows, at {listed(places)}")
    return needed


@answering(LargestByLiveBytes)
def largest_by_live_bytes(question: LargestByLiveBytes, announce: Phase) -> dict[str, int | None]:
    """Return the largest batch whose estimated live bytes fit; the estimate runs user code."""
    unit = question.request.accumulate

    def live_bytes(count: int) -> int:
        own = requested_step(replace(question.request, batch=count * unit))
        size = estimate_step(own, device="cpu").peak_live_bytes
        if size is None:
            raise UnsupportedError("the estimate has no peak")
        return size

    with announce("estimate"):
        found = largest_within(
            live_bytes, question.budget_bytes, low=LEAST_EXAMPLES, high=HIGHEST // unit
        )
    return {"batch": None if found is None else found * unit}


def _on_cpu(own: OwnStep, budget_bytes: int, announce: Phase) -> dict[str, int | None]:
    """Run two training steps, or one inference step, with a limit on the data segment.

    Before the limit is set, the network is built once, to count the modules and to load the code.
    """
    layers = sum(1 for _ in own.network("cpu").modules())
    if budget_bytes < (least := heap_headroom.room_bytes(layers)):
        rule = f"at least {format_bytes(least)} for {layers:,} modules"
        reason = "blocks smaller than a page are not counted below it"
        raise StepError(f"budget must be {rule}, got {format_bytes(budget_bytes)}: {reason}")
    gc.collect()
    heap_headroom.prime_matmuls()
    heap_headroom.settle("pinned", layers)
    before, peak_before = rlimit.status_bytes("VmSize"), rlimit.status_bytes("VmPeak")
    with rlimit.data_segment(budget_bytes):
        run = _built(own, "cpu", announce)
        for _ in range(1 if own.mode == "inference" else 2):
            run()
        peak = rlimit.status_bytes("VmPeak")
    return {"needed_bytes": peak - before if peak > peak_before else None}


def _on_gpu(
    own: OwnStep, limit: AbstractContextManager[None], announce: Phase
) -> dict[str, int | None]:
    """Run steps until reserved memory stops growing, and then run one more step."""
    with limit:
        try:
            run = _built(own, "cuda", announce)

            def reserved() -> int:
                run()
                return torch.cuda.max_memory_reserved()

            steps_until_steady(reserved, reserved())
            return {"needed_bytes": reserved()}
        except RuntimeError as error:  # no engine of cuDNN found memory for its workspace
            refused = torch.cuda.memory_stats().get("num_ooms", 0)
            if refused and ENGINE_MISSING in str(error):
                raise MemoryError(str(error)) from error
            raise


def _built(own: OwnStep, device: str, announce: Phase) -> Callable[[], object]:
    """Build the network, and return a function that runs one step."""
    with announce("build"):
        step = own.step(own.network(device), device)
    return lambda: run_step(step, announce)


def _real_limit(question: ProbeStep) -> AbstractContextManager[None]:
    is_whole = question.kind == "card"
    return nullcontext() if is_whole else rlimit.caching_allocator(question.budget_bytes)

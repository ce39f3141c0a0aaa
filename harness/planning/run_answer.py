"""Answers a question about a whole training loop, in a worker on a pretended GPU."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from harness.measurement.process.forked_call import in_fork
from harness.measurement.run_trace import trace_run
from harness.measurement.step_trace import StepTrace
from harness.planning.step_bench import ENDLESS_BYTES, use_gpu
from harness.planning.step_question import GpuOption, StepAnswer, StepQuestion
from harness.schema.memory_fit import GpuFit
from harness.schema.verdict import fit_of
from harness.training.requested_step import find_modules

Call = Callable[[], object]


def run_answer(asked: StepQuestion) -> StepAnswer:
    """Return the trace of the loop, and whether it fits on the GPU if that was asked."""
    find_modules(asked.request)
    gpu = asked.gpus[0]
    call = _call(pickle.loads(asked.request.sent))
    traced, steps, notes = in_fork(partial(_traced, asked, call, gpu))
    fits = (_fit(call, gpu, asked.settings, traced),) if asked.fits and gpu.total_bytes else ()
    return StepAnswer(
        metrics=traced.metrics, events=traced.events, layers=[], fits=fits, steps=steps, notes=notes
    )


def _call(objects: dict[str, Any]) -> Call:
    run, shapes = objects["run"], objects["shapes"]
    return run if shapes is None else partial(run, shapes)


def _traced(
    asked: StepQuestion, call: Call, gpu: GpuOption
) -> tuple[StepTrace, int, tuple[str, ...]]:
    values = use_gpu(
        gpu.variables,
        memory_bytes=ENDLESS_BYTES,
        settings=asked.settings,
        answers=asked.request.answers,
    )
    found = trace_run(call)
    values.refuse_unknown_sizes()
    return *found, values.notes()


def _fit(call: Call, gpu: GpuOption, settings: str, traced: StepTrace) -> GpuFit:
    cuda = traced.metrics.cuda
    assert cuda is not None, "the run used the GPU"
    allocated, reserved = cuda.allocated_peak_bytes or 0, cuda.reserved_peak_bytes or 0

    def completes(outside_bytes: int) -> bool:
        memory = gpu.total_bytes - outside_bytes
        if not settings and reserved <= memory:
            return True
        return allocated <= memory and in_fork(partial(_completes, call, gpu, settings, memory))

    least, most = gpu.outside_bytes
    surely = completes(most)
    return GpuFit(
        gpu=gpu.name,
        capability=gpu.capability,
        total_bytes=gpu.total_bytes,
        outside_bytes=gpu.outside_bytes,
        allocator_settings=settings,
        allocated_peak_bytes=(allocated, allocated),
        reserved_peak_bytes=(reserved, reserved),
        verdict=fit_of(in_every_case=surely, in_some_case=surely or completes(least)),
    )


def _completes(call: Call, gpu: GpuOption, settings: str, memory_bytes: int) -> bool:
    use_gpu(gpu.variables, memory_bytes=memory_bytes, settings=settings)
    try:
        call()
    except torch.OutOfMemoryError:
        return False
    return True

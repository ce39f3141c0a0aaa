"""Answers a question about a whole training loop, in a worker on a pretended GPU."""

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from msgspec.structs import replace

from harness.dry_run.library_workspaces import workspace_bytes
from harness.measurement.process.forked_call import in_fork
from harness.measurement.run_trace import trace_run
from harness.measurement.step_trace import StepTrace
from harness.planning.step_bench import (
    ENDLESS_BYTES,
    known,
    use_gpu,
    within_memory,
)
from harness.planning.step_question import GpuOption, StepAnswer, StepQuestion
from harness.planning.step_search import both_ends
from harness.planning.step_values import StepValues
from harness.schema.memory_fit import GpuFit
from harness.schema.verdict import fit_of
from harness.training.requested_step import find_modules

Call = Callable[[], object]


def run_answer(asked: StepQuestion) -> StepAnswer:
    """Return the trace of the loop, and whether it fits on the GPU if that was asked."""
    find_modules(asked.request)
    gpu = asked.gpus[0]
    call = _call(pickle.loads(asked.request.sent))
    traced, steps, notes, workspace = in_fork(partial(_traced, asked, call, gpu))
    fits: tuple[GpuFit, ...] = ()
    if asked.fits and gpu.total_bytes:
        cuda = traced.metrics.cuda
        assert cuda is not None, "the run used the GPU"
        peaks = Peaks(cuda.allocated_peak_bytes or 0, cuda.reserved_peak_bytes or 0)
        fit = _fit(asked, gpu, partial(_run, asked, call, gpu), peaks)
        if workspace:
            run = partial(_run, asked, call, gpu, largest_workspace=True)
            most = _fit(asked, gpu, run, known(in_fork(partial(run, ENDLESS_BYTES))))
            fit = replace(both_ends(fit, most), workspace_bytes=workspace)
        fits = (fit,)
    return StepAnswer(
        metrics=traced.metrics, events=traced.events, layers=[], fits=fits, steps=steps, notes=notes
    )


def _call(objects: dict[str, Any]) -> Call:
    run, shapes = objects["run"], objects["shapes"]
    return run if shapes is None else partial(run, shapes)


def _traced(
    asked: StepQuestion, call: Call, gpu: GpuOption
) -> tuple[StepTrace, int, tuple[str, ...], int]:
    values = _used(asked, gpu, ENDLESS_BYTES)
    found = trace_run(call)
    values.refuse_unknown_sizes()
    return *found, values.notes(), workspace_bytes()


def _used(
    asked: StepQuestion, gpu: GpuOption, memory_bytes: int, *, largest_workspace: bool = False
) -> StepValues:
    return use_gpu(
        gpu.variables,
        memory_bytes=memory_bytes,
        settings=asked.settings,
        answers=asked.request.answers,
        largest_workspace=largest_workspace,
    )


class Peaks(NamedTuple):
    """Peaks of a whole run, in bytes."""

    allocated_bytes: int
    reserved_bytes: int


def _run(
    asked: StepQuestion,
    call: Call,
    gpu: GpuOption,
    memory_bytes: int,
    *,
    largest_workspace: bool = False,
) -> Peaks | None:
    """Return the peaks of the run; None if memory runs out."""
    _used(asked, gpu, memory_bytes, largest_workspace=largest_workspace)

    def run() -> Peaks:
        call()
        return Peaks(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())

    return within_memory(run, largest_workspace=largest_workspace)


def _fit(
    asked: StepQuestion, gpu: GpuOption, run: Callable[[int], Peaks | None], peaks: Peaks
) -> GpuFit:
    def completes(outside_bytes: int) -> bool:
        memory = gpu.total_bytes - outside_bytes
        if not asked.settings and peaks.reserved_bytes <= memory:
            return True
        return peaks.allocated_bytes <= memory and in_fork(partial(run, memory)) is not None

    least, most = gpu.outside_bytes
    surely = completes(most)
    return GpuFit(
        gpu=gpu.name,
        capability=gpu.capability,
        total_bytes=gpu.total_bytes,
        outside_bytes=gpu.outside_bytes,
        allocator_settings=asked.settings,
        allocated_peak_bytes=(peaks.allocated_bytes, peaks.allocated_bytes),
        reserved_peak_bytes=(peaks.reserved_bytes, peaks.reserved_bytes),
        verdict=fit_of(in_every_case=surely, in_some_case=surely or completes(least)),
    )

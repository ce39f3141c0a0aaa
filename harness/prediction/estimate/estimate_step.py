"""Estimates the events and the metrics of one step."""

from typing import Any

import msgspec
from torch import nn

from harness.prediction.estimate.allocator_peaks import (
    estimated_fit,
    estimated_peaks,
    reserved_range,
    size_class,
)
from harness.prediction.estimate.cpu_recorder import CpuRecorder, fake_cpu
from harness.prediction.estimate.cuda_functions import cuda_functions
from harness.prediction.estimate.cuda_operators import cuda_operators
from harness.prediction.estimate.gpu_recorder import GpuRecorder
from harness.prediction.estimate.kernel_rules import KernelRules
from harness.prediction.estimate.meta_gpu import simulated_gpu
from harness.prediction.estimate.step_run import refusals, run_recorded
from harness.prediction.gpu import catalogue
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.workspaces import notes_on
from harness.prediction.interpreter_state import collection_paused, import_whole
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.events import trace_metrics
from harness.schema.metrics import Metrics
from harness.schema.step_report import StepReport
from harness.training.own_step import OwnStep

ON_CPU = (
    "estimate: a lower bound; what a CPU kernel allocates for itself and frees before it ends "
    "(of convolutions, normalizations, recurrent layers) is not counted"
)
RECURRENT = "recurrent layers: cuDNN's reserve is counted as gates, cell states and outputs"
CUDNN = "convolutions: cuDNN's workspaces follow rules made for an A100"
SETTINGS = "allocator settings: not estimated; the reserved range is that of default settings"
DECIDES = (
    "the step decides by a value of a GPU tensor, which an estimate does not know, and its memory"
    " depends on it; harness measure runs the step on this machine's CPU"
)
TRIED = "values of the GPU were read: runs with other ones gave the same peaks"
STEPS = 3
"""Number of training steps to run; memory is steady in the last step."""


def estimate_step(
    step: OwnStep, *, device: str, gpu: Gpu | None = None, allocator_settings: str = ""
) -> StepReport:
    """Estimate a step on the CPU or on a GPU; this machine needs no GPU.

    Without ``gpu``, the kernels of the default GPU are assumed, and ``fit`` is None in the report.
    """
    with collection_paused():
        if device != "cpu":
            return _on_gpu(step, gpu, allocator_settings)
        recorder = CpuRecorder()
        with refusals(on_cpu=True), fake_cpu(recorder):
            model = run_recorded(step, recorder, 2 if step.mode == "train" else 1, "cpu")
        return _report(step, recorder, model, (ON_CPU, *recorder.notes))


def _on_gpu(step: OwnStep, named: Gpu | None, settings: str) -> StepReport:
    import_whole("torch._dynamo")  # optimizers load it, and it lists torch's functions
    gpu = (named or catalogue.DEFAULT).in_environment()
    recorder, model = _settled(step, gpu)
    trace = recorder.trace()
    peaks = estimated_peaks(trace, recorder.workspace_bytes)
    seen = [peaks, peaks.first_step, *(peaks.phases or {}).values()]
    allocated = max(one.allocated_peak_bytes or 0 for one in seen if one is not None)
    low, high = reserved_range(allocated)
    convolves = any("convolution" in event.operator for event in trace.events)
    kinds = {type(module) for module in model.modules()}
    notes = (
        str(size_class(allocated)),
        f"reserved: {low:,} to {high:,} bytes, the build and the first step included",
        *[SETTINGS] * bool(settings),
        *notes_on(gpu.capability, gpu.workspace_config),
        *[CUDNN] * convolves,
        *[RECURRENT] * any(issubclass(kind, nn.RNNBase) for kind in kinds),
        *recorder.notes,
    )
    fit = None if named is None else estimated_fit(gpu, allocated, settings)
    return _report(step, recorder, model, notes, cuda=peaks, fit=fit)


def _settled(step: OwnStep, gpu: Gpu) -> tuple[GpuRecorder, nn.Module]:
    """Record a step; raise an error if its peaks depend on the values of GPU tensors."""
    first = GpuRecorder(KernelRules(gpu))
    try:
        model = _recorded(step, first, gpu)
    except StepError:
        if not first.decides:  # else a check of a value may have failed
            raise
        passing = GpuRecorder(KernelRules(gpu), truth=True)
        return passing, _recorded(step, passing, gpu)
    if first.takes_values:
        raise UnsupportedError(DECIDES)
    if not first.decides:
        return first, model
    peaks = estimated_peaks(first.trace(), first.workspace_bytes)
    for truth in (True, False):
        other = GpuRecorder(KernelRules(gpu), truth)
        try:
            _recorded(step, other, gpu)
        except StepError:  # such a value is an error
            continue
        if estimated_peaks(other.trace(), other.workspace_bytes) != peaks:
            raise UnsupportedError(DECIDES)
    first.notes[TRIED] = None
    return first, model


def _recorded(step: OwnStep, recorder: GpuRecorder, gpu: Gpu) -> nn.Module:
    operators = cuda_operators(cuda_functions(gpu))
    with refusals(on_cpu=False), simulated_gpu(recorder, gpu), operators:
        return run_recorded(step, recorder, STEPS if step.mode == "train" else 2, "cuda")


def _report(
    step: OwnStep,
    recorder: CpuRecorder | GpuRecorder,
    model: nn.Module,
    notes: tuple[str, ...],
    **fields: Any,
) -> StepReport:
    trace = recorder.trace()
    saved = recorder.saved() if step.mode == "train" else {}
    metrics = msgspec.convert({**trace_metrics(trace), **saved}, Metrics)
    fields |= {"layers": recorder.layers(model, trace), "trace": trace, "notes": notes}
    return StepReport(
        **msgspec.structs.asdict(metrics) | fields,
        method="estimate",
        batch=step.batch,
    )

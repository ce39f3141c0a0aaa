"""The estimate of one step: its events, and what follows from them."""

from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from torch import nn

from harness.prediction.estimate.cpu_recorder import CpuRecorder, fake_cpu
from harness.prediction.estimate.cuda_functions import cuda_functions
from harness.prediction.estimate.cuda_operators import cuda_operators
from harness.prediction.estimate.gpu_recorder import GpuRecorder
from harness.prediction.estimate.kernel_rules import KernelRules
from harness.prediction.estimate.meta_gpu import simulated_gpu
from harness.prediction.estimate.step_run import refusals, run_recorded
from harness.prediction.gpu import catalogue
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.fit import GpuMemory, OnCuda, memory_of_gpu, peaks_on, verdict_on_gpu
from harness.prediction.gpu.simulation import RecordedSteps, simulate
from harness.prediction.gpu.workspaces import notes_on
from harness.prediction.interpreter_state import collection_paused, import_whole
from harness.schema.events import trace_metrics
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics import Metrics
from harness.schema.step_report import StepReport
from harness.training.own_step import OwnStep

ACCURACY = (
    "estimate: requested peak within 1% in 238 of 248 runs of 62 networks, worst -8.6%; reserved "
    "peak -11.8% to +15.7%"
)
"""On CUDA, against the dry run of torch 2.15: ``results/cuda-dry-run/models.md``."""
ON_CPU = (
    "estimate: a lower bound; what a CPU kernel allocates for itself and frees before it ends "
    "(of convolutions, normalizations, recurrent layers) is not counted"
)
RECURRENT = "recurrent layers: cuDNN's reserve is counted as gates, cell states and outputs"
CNN_RESERVES = 1.2
"""Most that a dry run reserved, as a multiple of the estimate: ResNet-18 in float16 on a T4.

Source: ``results/cuda-dry-run/cnns.csv``; on an A100 (``models.csv``) AlexNet's 1.14 is the most.
"""
CUDNN = (
    "convolutions: cuDNN's workspaces follow rules made for an A100; a dry run reserved up to "
    f"{CNN_RESERVES - 1:.0%} more, and the verdict allows for so much"
)
STEPS = 3
"""The first step, a later one, and one more to see that it is steady."""


def estimate_step(
    step: OwnStep, *, device: str, gpu: Gpu | None = None, allocator_settings: str = ""
) -> StepReport:
    """Return the estimate of a step on a CPU, or on a GPU that need not be there.

    Without ``gpu`` its kernels are the default one's, and there is no verdict.
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
    recorder = GpuRecorder(KernelRules(gpu))
    operators = cuda_operators(cuda_functions(gpu))
    with refusals(on_cpu=False), simulated_gpu(recorder, gpu), operators:
        model = run_recorded(step, recorder, STEPS if step.mode == "train" else 2, "cuda")
    trace = recorder.trace()
    script = RecordedSteps(trace, recorder.workspace_bytes)
    on_cuda = peaks_on(script, gpu, settings, policies=1)
    convolves = any("convolution" in event.operator for event in trace.events)
    memory = None if named is None else memory_of_gpu(gpu, settings)
    fit = None if memory is None else _fit(memory, script, on_cuda, convolves=convolves)
    kinds = {type(module) for module in model.modules()}
    notes = (
        ACCURACY,
        *notes_on(gpu.capability, gpu.workspace_config),
        *[CUDNN] * convolves,
        *[RECURRENT] * any(issubclass(kind, nn.RNNBase) for kind in kinds),
        *recorder.notes,
        *on_cuda.notes,
    )
    return _report(step, recorder, model, notes, cuda=on_cuda.cuda, fit=fit)


def _fit(memory: GpuMemory, script: RecordedSteps, on_cuda: OnCuda, *, convolves: bool) -> GpuFit:
    """Return the verdict; a step that convolves surely fits only with larger workspaces."""
    low, high = on_cuda.ranges["reserved_peak_bytes"]
    workspaces = int(high * (CNN_RESERVES - 1)) if convolves else 0
    least, most = memory.outside_bytes
    with_workspaces = replace(memory, outside_bytes=(least, most + workspaces))
    fit = verdict_on_gpu(memory, on_cuda, with_workspaces.verdict(partial(simulate, script)))
    return msgspec.structs.replace(fit, reserved_peak_bytes=(low, high + workspaces))


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

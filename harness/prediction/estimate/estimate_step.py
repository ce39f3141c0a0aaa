"""The estimate of one step: its events, and what follows from them."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import msgspec
from torch import nn

from harness.prediction.estimate.cpu_recorder import CpuRecorder, fake_cpu
from harness.prediction.estimate.cuda_functions import cuda_functions
from harness.prediction.estimate.gpu_recorder import GpuRecorder
from harness.prediction.estimate.kernel_rules import KernelRules
from harness.prediction.estimate.meta_autocast import simulated_autocast
from harness.prediction.estimate.meta_gpu import simulated_gpu
from harness.prediction.estimate.refusals import refusals
from harness.prediction.estimate.step_run import run_recorded
from harness.prediction.gpu import catalogue, peaks, workspaces
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.simulation import RecordedSteps, simulate
from harness.prediction.paused_collection import collection_paused
from harness.prediction.whole_import import import_whole
from harness.schema.events import Trace, trace_metrics
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics import CudaMetrics, Layer, Metrics
from harness.training.own_step import OwnStep

ACCURACY = (
    "estimate: requested peak within 1% in 248 of 248 runs of 62 networks, worst -0.1%; reserved "
    "peak -2.7% to +3.1%"
)
"""On CUDA, against the dry run of torch 2.15: ``results/cuda-dry-run/models.md``."""
ON_CPU = (
    "estimate: a lower bound; what a CPU kernel allocates for itself and frees before it ends "
    "(of convolutions, normalizations, recurrent layers) is not counted"
)
RECURRENT = "recurrent layers: cuDNN's reserve is counted as gates, cell states and outputs"
CUDNN = "convolutions: cuDNN's workspaces are not known and not counted"
STEPS = 3
"""The first step, a later one, and one more to see that it is steady."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The need of a step that was not run; all sizes are bytes.

    Attributes:
        trace: every block allocated and freed; the last step is the measured one.
        layers: one row for each module, in the order of the forward pass.
        metrics: the metrics of a record that follow from the trace, and those of CUDA.
        fit: whether the step fits; None on the CPU, and where no GPU of known size is given.
        notes: how exact it is, and what was not counted.
    """

    trace: Trace = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    metrics: Metrics
    fit: GpuFit | None
    notes: tuple[str, ...]

    @property
    def cuda(self) -> CudaMetrics | None:
        """Peaks of the CUDA caching allocator; None for the CPU."""
        return self.metrics.cuda


def estimate_step(
    step: OwnStep, *, device: str, gpu: Gpu | None = None, allocator_settings: str = ""
) -> Estimate:
    """Return the estimate of a step on a CPU, or on a GPU that need not be there.

    >>> from torch import nn
    >>> own = OwnStep(build=lambda: nn.Linear(784, 10), batch=64, inputs=(784,))
    >>> found = estimate_step(own, device="cpu")
    >>> found.metrics.saved_bytes, found.metrics.peak_phase
    (203788, 'backward')
    """
    with collection_paused():
        if device == "cpu":
            return _on_cpu(step)
        return _on_gpu(step, gpu, allocator_settings)


def _on_cpu(step: OwnStep) -> Estimate:
    recorder = CpuRecorder()
    with refusals(on_cpu=True), fake_cpu(recorder):
        model = run_recorded(step, recorder, 2 if step.mode == "train" else 1, "cpu")
    trace = recorder.trace()
    return Estimate(
        trace=trace,
        layers=recorder.layers.rows(model, trace),
        metrics=_metrics(recorder, trace, None, step),
        fit=None,
        notes=(ON_CPU, *recorder.notes),
    )


def _on_gpu(step: OwnStep, named: Gpu | None, settings: str) -> Estimate:
    import_whole("torch._dynamo")  # optimizers load it, and it lists torch's functions
    gpu = (named or catalogue.DEFAULT).in_environment()
    recorder = GpuRecorder(KernelRules(gpu))
    with ExitStack() as stack:
        stack.enter_context(refusals(on_cpu=False))
        stack.enter_context(simulated_gpu(recorder, gpu, cuda_functions(recorder, gpu)))
        stack.enter_context(simulated_autocast())
        model = run_recorded(step, recorder, STEPS if step.mode == "train" else 2, "cuda")
    trace = recorder.trace()
    script = RecordedSteps(trace, recorder.workspace_bytes)
    found = peaks.peaks_on(script, gpu, settings, policies=1)
    memory = None if named is None else peaks.memory_of_gpu(gpu, settings)
    fit = None
    if memory is not None:
        fit = peaks.verdict_on_gpu(memory, found, memory.verdict(partial(simulate, script)))
    return Estimate(
        trace=trace,
        layers=recorder.layers.rows(model, trace),
        metrics=_metrics(recorder, trace, found.cuda, step),
        fit=fit,
        notes=(
            ACCURACY,
            *workspaces.notes_on(gpu.capability, gpu.workspace_config),
            *[CUDNN] * _contains(model, nn.modules.conv._ConvNd),
            *[RECURRENT] * _contains(model, nn.RNNBase),
            *recorder.notes,
            *found.notes,
        ),
    )


def _metrics(
    recorder: CpuRecorder | GpuRecorder, trace: Trace, cuda: CudaMetrics | None, step: OwnStep
) -> Metrics:
    saved = recorder.layers.saved_metrics() if step.mode == "train" else {}
    return msgspec.convert({**trace_metrics(trace), **saved, "cuda": cuda}, Metrics)


def _contains(model: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(module, kind) for module in model.modules())

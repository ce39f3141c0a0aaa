"""One row for each GPU of the catalogue: does the step fit, and how far could the batch grow.

The step is run once and played on every GPU with that GPU's memory and cuBLAS workspace. Only
where it uses fused attention, whose kernel depends on the capability, is it run once for each
family of GPUs. The largest batch is where a line through two predictions meets the memory.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from harness.allocator import CachingAllocator, policies_to_try
from harness.prediction.gpu.catalogue import DEFAULT, GPUS, Gpu
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import play
from harness.prediction.gpu.workspaces import are_kept, workspace_bytes
from harness.prediction.mlp import cuda_metrics
from harness.prediction.module.asked_step import AskedStep
from harness.prediction.module.event_ledger import WORKSPACE
from harness.prediction.module.predict_module import STEPS_ON_GPU, run_on_gpu
from harness.schema.events import Trace
from harness.schema.prediction import GpuFit

SHARED = (
    "the step was run for {name}; on the others the scratch of sums may differ by a few hundred "
    "KiB, and the largest batch is interpolated"
)


@dataclass(frozen=True, kw_only=True)
class GpuRow:
    """What one GPU makes of the step.

    Attributes:
        fit: the verdict and the peaks.
        headroom_bytes: what is left next to the highest reserved peak and the most outside the
            allocator; negative where it does not fit.
        largest_batch: the largest batch that should fit, interpolated; 0 if none does.

    """

    fit: GpuFit
    headroom_bytes: int
    largest_batch: int


def gpu_table(
    build: Callable[[], nn.Module],
    batch: int,
    *,
    gpus: Iterable[Gpu] = tuple(GPUS.values()),
    allocator_settings: str = "",
    cudnn: bool = True,
    **asked: Any,
) -> tuple[GpuRow, ...]:
    """Return a row for each of ``gpus``, the smallest memory first.

    Args:
        build: returns the network, as for ``harness.predict``.
        batch: examples in a step.
        gpus: GPUs of known size.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's.
        asked: further arguments of ``harness.predict``: input_shape, inputs, optimizer, ...

    """
    steps = STEPS_ON_GPU if asked.get("mode", "train") == "train" else 2
    traces: dict[tuple[int, object], Trace] = {}

    def traced(size: int, gpu: Gpu) -> Trace:
        family = _family(gpu) if (size, None) not in traces else None
        if (size, family) not in traces:
            step = AskedStep(build=build, batch=size, **asked)
            ledger, scratch = run_on_gpu(step, steps, gpu, cudnn=cudnn)
            traces[size, family if scratch.uses_attention else None] = ledger.trace()
            return ledger.trace()
        return traces[size, family]

    rows = [
        _row(gpu.in_environment(), batch, partial(traced), allocator_settings)
        for gpu in sorted(gpus, key=lambda gpu: gpu.total_bytes or 0)
        if gpu.total_bytes is not None
    ]
    return tuple(rows)


def _row(gpu: Gpu, batch: int, traced: Callable[[int, Gpu], Trace], settings: str) -> GpuRow:
    script = _script(traced(batch, gpu), gpu)
    found = cuda_metrics.peaks_on(script, gpu, settings)
    memory = cuda_metrics.memory_of_gpu(gpu, settings)
    assert memory is not None, "only GPUs of known size are asked about"
    fit = cuda_metrics.fit_on_gpu(memory, found, (partial(play, script),))
    room = memory.total_bytes - memory.outside_bytes[1]
    first = fit.reserved_peak_bytes[1]
    second = _reserved(_script(traced(2 * batch, gpu), gpu), settings)
    slope = (second - first) / batch
    largest = int(batch + (room - first) / slope) if slope > 0 else 0
    return GpuRow(fit=fit, headroom_bytes=room - first, largest_batch=max(largest, 0))


def _reserved(script: RecordedSteps, settings: str) -> int:
    """Return the reserved peak by one address policy, on a GPU without a limit."""
    memory = cuda_metrics.memory_of_gpu(replace(DEFAULT, total_bytes=1 << 50), settings)
    assert memory is not None, "its size was just given"
    config = memory.config(0)
    policy = next(iter(policies_to_try(config)))
    return play(script, CachingAllocator(config, addresses=policy())).measured.reserved


def _script(trace: Trace, gpu: Gpu) -> RecordedSteps:
    """Return the steps with the workspaces of ``gpu``."""
    size = workspace_bytes(gpu.capability, gpu.workspace_config)
    events = [
        event._replace(size_bytes=size if event.size_bytes > 0 else -size)
        if event.operator == WORKSPACE
        else event
        for event in trace.events
    ]
    kept = size * sum(event.operator == WORKSPACE for event in trace.events) * are_kept()
    return RecordedSteps(Trace(events, steps=trace.steps), kept)


def _family(gpu: Gpu) -> str:
    """Return which GPUs choose the same attention kernels."""
    if gpu.capability < (8, 0):
        return f"before Ampere, {gpu.capability >= (7, 0)}"
    return (
        "little shared memory" if gpu.capability[1] in (6, 9) or gpu.capability >= (12, 0) else ""
    )

"""Peaks of steps on a GPU by the names of a record, and the verdict on the GPU."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from harness.allocator import AllocatorConfig, CachingAllocator, OutOfMemoryError, policies_to_try
from harness.prediction.gpu import context_overhead
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.fit import GpuMemory, run_once
from harness.prediction.gpu.simulation import Peaks, Script, Simulated, simulate
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.verdict import Fit

ENDLESS = "allocator settings: the GPU's limit is too small; metrics as on one without a limit"

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class OnCuda:
    """Peaks of steps in the allocator, and notes for the reader."""

    cuda: CudaMetrics
    ranges: dict[str, tuple[int, int]]
    """Lowest and highest of each peak, over the ways in which a driver may place segments."""
    notes: tuple[str, ...]


def peaks_on(
    script: Script, gpu: Gpu, settings: str = "", *, policies: int | None = None
) -> OnCuda:
    """Return what the build and the steady step of ``script`` need on ``gpu``.

    Where address policies differ the metrics are those of ascending addresses, and the ranges
    say how far the others are from them. ``policies`` says how many are tried; None is all.
    """
    runs, endless = by_each_policy(partial(simulate, script), gpu, settings, policies)
    notes = [ENDLESS] if endless else []
    peaks = [named_peaks(simulated.measured) for simulated in runs]
    ranges = {name: (min(p[name] for p in peaks), max(p[name] for p in peaks)) for name in peaks[0]}
    for name in ("allocated", "reserved"):
        low, high = ranges[f"{name}_peak_bytes"]
        if low < high:
            notes.append(f"{name}: {low:,} to {high:,}, by where the driver places segments")
    cuda = _cuda_peaks(runs[0], script.workspace_bytes)
    return OnCuda(cuda=cuda, ranges=ranges, notes=tuple(notes))


def memory_of_gpu(gpu: Gpu, settings: str) -> GpuMemory | None:
    """Return the GPU with what may be outside the allocator; None where its size is unknown."""
    if gpu.total_bytes is None:
        return None
    return GpuMemory(
        gpu=gpu,
        settings=settings,
        total_bytes=gpu.total_bytes,
        outside_bytes=(context_overhead.LEAST_BYTES, context_overhead.MOST_BYTES),
    )


def verdict_on_gpu(
    memory: GpuMemory,
    peaks: OnCuda,
    verdict: Fit,
    largest: int | None = None,
    largest_at_best: int | None = None,
    *,
    is_searched: bool = False,
) -> GpuFit:
    """Return a verdict with the GPU, the peaks and the largest batches that it is about."""
    return GpuFit(
        gpu=memory.gpu.name,
        capability=".".join(map(str, memory.gpu.capability)),
        total_bytes=memory.total_bytes,
        outside_bytes=memory.outside_bytes,
        allocator_settings=memory.settings,
        allocated_peak_bytes=peaks.ranges["allocated_peak_bytes"],
        reserved_peak_bytes=peaks.ranges["reserved_peak_bytes"],
        verdict=verdict,
        is_searched=is_searched,
        largest_batch=largest,
        largest_batch_at_best=largest_at_best,
    )


def by_each_policy(
    run: Callable[[CachingAllocator], _Result], gpu: Gpu, settings: str, policies: int | None = None
) -> tuple[list[_Result], bool]:
    """Return what ``run`` finds by each, and whether the GPU's limit had to be lifted for it."""
    config = AllocatorConfig.from_settings(settings, total_bytes=gpu.total_bytes)
    if config.memory_fraction == 1:  # no setting is a share of the GPU: one without end
        config = replace(config, total_bytes=None)
    try:
        return _results(run, config, policies), False
    except OutOfMemoryError:
        endless = replace(config, memory_fraction=1.0, total_bytes=None)
        return _results(run, endless, policies), True


def _results(
    run: Callable[[CachingAllocator], _Result], config: AllocatorConfig, policies: int | None
) -> list[_Result]:
    tried = policies_to_try(config)[:policies]
    return [run_once(run, config, policy()) for policy in tried]


def _cuda_peaks(simulated: Simulated, workspace_bytes: int) -> CudaMetrics:
    phases = {"build": simulated.build, **simulated.phases}
    return CudaMetrics(
        **named_peaks(simulated.measured),
        workspace_bytes=workspace_bytes,
        first_step=CudaPeaks(**named_peaks(simulated.first_step)),
        phases={phase: CudaPeaks(**named_peaks(peaks)) for phase, peaks in phases.items()},
        steady_after=simulated.steady_after,
    )


def named_peaks(peaks: Peaks) -> dict[str, int]:
    """Return peaks by the names of a record."""
    return {f"{name}_peak_bytes": peak for name, peak in peaks._asdict().items()}

"""A workload's metrics on CUDA by the names of a record, and the verdict on a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from harness.allocator import AllocatorConfig, CachingAllocator, OutOfMemoryError, policies_to_try
from harness.prediction.gpu import context_overhead
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.fit import GpuMemory, Run, run_once
from harness.prediction.gpu.simulation import Peaks, Played, Script, play
from harness.prediction.mlp.cuda_fit import largest_batch, runs_of
from harness.prediction.mlp.last_batch import Epoch
from harness.schema.fit import FITS, BudgetFit, Fit, GpuFit
from harness.schema.last_batch import LastBatch, StepPeaks
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.workload import Workload

ENDLESS = "allocator settings: the GPU's limit is too small; metrics as on one without a limit"

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class OnCuda:
    """What steps need of the allocator, and what the reader must know."""

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

    Raises:
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.

    """
    runs, endless = _by_each_policy(partial(play, script), gpu, settings, policies)
    notes = [ENDLESS] if endless else []
    peaks = [_named(played.measured) for played in runs]
    ranges = {name: (min(p[name] for p in peaks), max(p[name] for p in peaks)) for name in peaks[0]}
    for name in ("allocated", "reserved"):
        low, high = ranges[f"{name}_peak_bytes"]
        if low < high:
            notes.append(f"{name}: {low:,} to {high:,}, by where the driver places segments")
    cuda = _cuda_peaks(runs[0], script.workspace_bytes)
    return OnCuda(cuda=cuda, ranges=ranges, notes=tuple(notes))


def last_batch(epoch: Epoch, settings: str = "") -> tuple[LastBatch, tuple[str, ...]]:
    """Return the peaks of the epoch's partial step and of the one after it, and notes.

    What all steps together reserve, and what these two do beyond all before, are lowest and
    highest over the ways in which a driver may place segments. The steps' peaks are those of
    ascending addresses.

    Raises:
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.

    """
    runs, endless = _by_each_policy(epoch.play, epoch.gpu, settings)
    rises = [played.reserved_rise_bytes for played in runs]
    reserved = [played.reserved_peak_bytes for played in runs]
    found = LastBatch(
        examples=epoch.examples,
        rows=epoch.rows,
        steps_before=epoch.steps_before,
        partial_step=StepPeaks(**_named(runs[0].partial)),
        next_step=StepPeaks(**_named(runs[0].following)),
        reserved_peak_bytes=(min(reserved), max(reserved)),
        reserved_rise_bytes=(min(rises), max(rises)),
    )
    return found, (ENDLESS,) if endless else ()


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


def fit_on_gpu(
    memory: GpuMemory, found: OnCuda, runs: tuple[Run, ...], workload: Workload | None = None
) -> GpuFit:
    """Return whether ``runs`` fit on the GPU, and for a workload its largest batches."""
    verdict = memory.verdict(*runs)
    if workload is None:
        return verdict_on_gpu(memory, found, verdict)
    surely, at_best = (largest_batch(memory, workload, surely=each) for each in (True, False))
    return verdict_on_gpu(memory, found, verdict, surely, at_best, is_searched=True)


def verdict_on_gpu(
    memory: GpuMemory,
    found: OnCuda,
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
        allocated_peak_bytes=found.ranges["allocated_peak_bytes"],
        reserved_peak_bytes=found.ranges["reserved_peak_bytes"],
        verdict=verdict,
        is_searched=is_searched,
        largest_batch=largest,
        largest_batch_at_best=largest_at_best,
    )


def within(
    workload: Workload,
    gpu: Gpu,
    settings: str,
    needed_bytes: int,
    budget_bytes: int,
    epoch: Epoch | None = None,
) -> BudgetFit:
    """Return whether the allocator needs to reserve at most the budget."""
    memory = GpuMemory(gpu=gpu, settings=settings, total_bytes=budget_bytes, outside_bytes=(0, 0))
    return BudgetFit(
        budget_bytes=budget_bytes,
        needed_bytes=needed_bytes,
        fits=memory.verdict(*runs_of(workload, gpu, epoch)) == FITS,
        largest_batch=largest_batch(memory, workload),
    )


def _without_end(config: AllocatorConfig) -> AllocatorConfig:
    """Return the configuration on a GPU without end, where no setting is a share of it."""
    return config if config.memory_fraction < 1 else replace(config, total_bytes=None)


def _by_each_policy(
    run: Callable[[CachingAllocator], _Result],
    gpu: Gpu,
    settings: str,
    policies: int | None = None,
) -> tuple[list[_Result], bool]:
    """Return what ``run`` finds by each, and whether the GPU's limit had to be lifted for it."""
    config = _without_end(AllocatorConfig.from_settings(settings, total_bytes=gpu.total_bytes))
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


def _cuda_peaks(played: Played, workspace_bytes: int) -> CudaMetrics:
    phases = {"build": played.build, **played.phases}
    return CudaMetrics(
        **_named(played.measured),
        workspace_bytes=workspace_bytes,
        first_step=CudaPeaks(**_named(played.first_step)),
        phases={phase: CudaPeaks(**_named(peaks)) for phase, peaks in phases.items()},
        steady_after=played.steady_after,
    )


def _named(peaks: Peaks) -> dict[str, int]:
    return {f"{name}_peak_bytes": peak for name, peak in peaks._asdict().items()}

"""Steps on a GPU, simulated by the allocator model: their peaks, fit and largest batch.

Two things are not known beforehand: where the driver places segments, which decides between
free blocks of equal size, and how much memory is outside the allocator. So steps fit where they
run under every address policy with the most memory outside, they do not fit where they run
under none with the least, and anything between is a close call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    CachingAllocator,
    OutOfMemoryError,
    policies_to_try,
)
from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu
from harness.prediction.gpu.simulation import Peaks, Script, simulate
from harness.prediction.interpreter_state import collection_paused
from harness.prediction.largest_batch import NOT_SEARCHED, Largest
from harness.schema.memory_fit import Fit, GpuFit, fit_of
from harness.schema.metrics import CudaMetrics, CudaPeaks

ENDLESS = "allocator settings: the GPU's limit is too small; metrics as on one without a limit"

_Result = TypeVar("_Result")

Run = Callable[[CachingAllocator], object]
"""Simulates steps with an allocator; raises OutOfMemoryError where they do not fit."""


def run_once(
    run: Callable[[CachingAllocator], _Result], config: AllocatorConfig, addresses: AddressPolicy
) -> _Result:
    """Return what ``run`` finds with an allocator of its own, of which nothing is left after."""
    allocator = CachingAllocator(config, addresses=addresses)
    with collection_paused():
        try:
            return run(allocator)
        finally:
            allocator.discard()


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """A GPU's memory and the settings of the allocator that hands it out."""

    gpu: Gpu
    settings: str
    total_bytes: int
    outside_bytes: tuple[int, int]
    """The least and the most outside the allocator."""

    def config(self, outside_bytes: int) -> AllocatorConfig:
        """Return the allocator's configuration with ``outside_bytes`` outside it."""
        return AllocatorConfig.from_settings(
            self.settings, total_bytes=self.total_bytes, outside_bytes=outside_bytes
        )

    def verdict(self, run: Run) -> Fit:
        """Return fits, does not fit, or close call."""
        surely = all(self.completed(run, surely=True))
        in_some_case = surely or any(self.completed(run, surely=False))
        return fit_of(in_every_case=surely, in_some_case=in_some_case)

    def completed(self, run: Run, *, surely: bool) -> Iterator[bool]:
        """Yield for each address policy whether ``run`` completes.

        The most memory is outside the allocator; if not ``surely``, the least.
        """
        config = self.config(self.outside_bytes[surely])
        for policy in policies_to_try(config):
            try:
                run_once(run, config, policy())
            except OutOfMemoryError:
                yield False
            else:
                yield True


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
    ascending = runs[0]
    phases = {"build": ascending.build, **ascending.phases}
    cuda = CudaMetrics(
        **peaks[0],
        workspace_bytes=script.workspace_bytes,
        first_step=CudaPeaks(**named_peaks(ascending.first_step)),
        phases={phase: CudaPeaks(**named_peaks(highs)) for phase, highs in phases.items()},
        steady_after=ascending.steady_after,
    )
    return OnCuda(cuda=cuda, ranges=ranges, notes=tuple(notes))


def memory_of_gpu(gpu: Gpu, settings: str) -> GpuMemory | None:
    """Return the GPU with what may be outside the allocator; None where its size is unknown."""
    if gpu.total_bytes is None:
        return None
    return GpuMemory(
        gpu=gpu, settings=settings, total_bytes=gpu.total_bytes, outside_bytes=OUTSIDE_BYTES
    )


def verdict_on_gpu(
    memory: GpuMemory,
    peaks: OnCuda,
    verdict: Fit,
    largest: Largest = NOT_SEARCHED,
    largest_at_best: Largest = NOT_SEARCHED,
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
        is_searched=largest.is_found,
        largest_batch=largest.batch,
        largest_batch_at_best=largest_at_best.batch,
    )


def by_each_policy(
    run: Callable[[CachingAllocator], _Result], gpu: Gpu, settings: str, policies: int | None = None
) -> tuple[list[_Result], bool]:
    """Return what ``run`` finds by each, and whether the GPU's limit had to be lifted for it."""

    def results(config: AllocatorConfig) -> list[_Result]:
        tried = policies_to_try(config)[:policies]
        return [run_once(run, config, policy()) for policy in tried]

    config = AllocatorConfig.from_settings(settings, total_bytes=gpu.total_bytes)
    if config.memory_fraction == 1:  # no setting is a share of the GPU: one without end
        config = replace(config, total_bytes=None)
    try:
        return results(config), False
    except OutOfMemoryError:
        return results(replace(config, memory_fraction=1.0, total_bytes=None)), True


def named_peaks(peaks: Peaks) -> dict[str, int]:
    """Return peaks by the names of a record."""
    return {f"{name}_peak_bytes": peak for name, peak in peaks._asdict().items()}

"""A workload's figures on CUDA by the names of a record, and the verdict on a card."""

from dataclasses import dataclass, replace
from typing import Any

from harness.events import Trace
from harness.prediction.caching_allocator import (
    AllocatorConfig,
    CachingAllocator,
    OutOfMemoryError,
    policies_to_try,
)
from harness.prediction.cuda import outside
from harness.prediction.cuda.card import FITS, Card
from harness.prediction.cuda.gpus import Gpu
from harness.prediction.cuda.simulation import Peaks, Played, play
from harness.prediction.cuda.trace import CudaSteps
from harness.record import CudaFigures, CudaPeaks
from harness.workload import Workload

ENDLESS = "allocator settings: the card's limit is too small; figures as on one without a limit"


@dataclass(frozen=True)
class OnCuda:
    """What a workload takes on a card, and what the reader must know."""

    trace: Trace
    cuda: CudaFigures
    ranges: dict[str, tuple[int, int]]
    """Lowest and highest of each peak, over the ways in which a driver may place segments."""
    notes: tuple[str, ...]


def figures(workload: Workload, gpu: Gpu, settings: str = "") -> OnCuda:
    """Return what the build and the steady step of ``workload`` take on ``gpu``.

    Where address policies differ the figures are those of one that reserves most, and of
    these one that allocates most.

    Raises:
        NotFollowedError: the workload has a part that is not followed here.
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.

    """
    script = CudaSteps(workload, gpu)
    config = _without_end(AllocatorConfig.from_settings(settings, total_bytes=gpu.total_bytes))
    notes: tuple[str, ...] = ()
    try:
        runs = _play(script, config)
    except OutOfMemoryError:
        notes = (ENDLESS,)
        runs = _play(script, replace(config, memory_fraction=1.0, total_bytes=None))
    highest = max(runs, key=lambda played: (played.measured.reserved, played.measured.allocated))
    peaks = [_named(played.measured) for played in runs]
    return OnCuda(
        trace=script.trace(2),
        cuda=_cuda_figures(highest, script.workspace_bytes),
        ranges={
            name: (min(p[name] for p in peaks), max(p[name] for p in peaks)) for name in peaks[0]
        },
        notes=notes,
    )


def on_card(
    workload: Workload, gpu: Gpu, settings: str, ranges: dict[str, tuple[int, int]]
) -> dict[str, Any] | None:
    """Return the verdict on the card and the largest batch; None where its size is unknown.

    Peaks are ranges: lowest and highest. ``largest_batch`` fits whatever the driver does;
    ``largest_batch_at_best`` is the largest that is no lost cause.
    """
    if gpu.total_bytes is None:
        return None
    card = Card(
        gpu=gpu,
        settings=settings,
        total_bytes=gpu.total_bytes,
        outside_bytes=(outside.LEAST_BYTES, outside.MOST_BYTES),
    )
    return {
        "gpu": gpu.name,
        "capability": ".".join(map(str, gpu.capability)),
        "total_bytes": gpu.total_bytes,
        "outside_bytes": card.outside_bytes,
        "allocator_settings": settings,
        "allocated_peak_bytes": ranges["allocated_peak_bytes"],
        "reserved_peak_bytes": ranges["reserved_peak_bytes"],
        "verdict": card.verdict(workload),
        "largest_batch": card.largest_batch(workload, card.surely_runs),
        "largest_batch_at_best": card.largest_batch(workload, card.may_run),
    }


def within(
    workload: Workload, gpu: Gpu, settings: str, needed_bytes: int, budget_bytes: int
) -> dict[str, Any]:
    """Return the verdict on a budget: the most that the allocator may reserve."""
    card = Card(gpu=gpu, settings=settings, total_bytes=budget_bytes, outside_bytes=(0, 0))
    return {
        "budget_bytes": budget_bytes,
        "needed_bytes": needed_bytes,
        "fits": card.verdict(workload) == FITS,
        "largest_batch": card.largest_batch(workload, card.surely_runs),
    }


def _without_end(config: AllocatorConfig) -> AllocatorConfig:
    """Return the configuration on a card without end, where no setting is a share of it."""
    return config if config.memory_fraction < 1 else replace(config, total_bytes=None)


def _play(script: CudaSteps, config: AllocatorConfig) -> list[Played]:
    return [
        play(script, CachingAllocator(config, addresses=policy()))
        for policy in policies_to_try(config)
    ]


def _cuda_figures(played: Played, workspace_bytes: int) -> CudaFigures:
    phases = {"build": played.build, **played.phases}
    return CudaFigures(
        **_named(played.measured),
        workspace_bytes=workspace_bytes,
        first_step=CudaPeaks(**_named(played.first_step)),
        phases={phase: CudaPeaks(**_named(peaks)) for phase, peaks in phases.items()},
        steady_after=played.steady_after,
    )


def _named(peaks: Peaks) -> dict[str, int]:
    return {f"{name}_peak_bytes": peak for name, peak in peaks._asdict().items()}

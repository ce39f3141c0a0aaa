"""The CUDA caching allocator's own counters, and the memory that the driver holds outside it.

The allocator keeps its counters on the CPU, so they are exact even if the device has not finished.
The device is synchronised before each reading, so that the allocator frees blocks that wait for
another stream, and an error of a kernel is raised in its step.

Source: ``torch.cuda.memory_stats``; aten/src/ATen/cuda/CublasHandlePool.cpp (workspaces).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from harness.instruments.rss import Rise
from harness.schema.step_choices import MOST_STEPS

_COUNTERS = ("requested", "allocated", "active", "reserved")


@contextmanager
def cuda_peaks() -> Iterator[dict[str, int]]:
    """Measure the allocator's peaks over the block; they include bytes alive at its beginning.

    After the block, the dict has the peaks in bytes, under the names that a record uses.
    """
    peaks: dict[str, int] = {}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    try:
        yield peaks
    finally:
        torch.cuda.synchronize()
        stats = torch.cuda.memory_stats()
        for name in _COUNTERS:
            peaks[f"{name}_peak_bytes"] = stats.get(f"{name}_bytes.all.peak", 0)


@contextmanager
def reserved_rise() -> Iterator[Rise]:
    """Measure the rise of the allocator's reserved memory over the block."""
    result = Rise("cuda")
    before = torch.cuda.memory_reserved()
    with cuda_peaks() as peaks:
        yield result
    result.rise_bytes = peaks["reserved_peak_bytes"] - before


class PhasePeaks:
    """The peaks of each phase of a step; the higher peaks if a phase occurs twice."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, int]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Attribute the block's peaks to phase ``name``."""
        with cuda_peaks() as peaks:
            yield
        self.metrics[name] = highest([self.metrics.get(name, peaks), peaks])


class StepPeaks:
    """The peaks of a build and of each step after it, phase by phase."""

    def __init__(self) -> None:
        self._parts: list[dict[str, dict[str, int]]] = []

    def next_part(self) -> PhasePeaks:
        """Begin the build, or another step."""
        peaks = PhasePeaks()
        self._parts.append(peaks.metrics)
        return peaks

    @property
    def last(self) -> dict[str, int]:
        """The highest peaks of the last step, or of the build."""
        return highest(self._parts[-1].values())

    def metrics(self) -> dict[str, Any]:
        """Return a record's metrics from the steps; the last step is the measured step."""
        build, first, *_, last = self._parts
        return {
            "workspace_bytes": free_workspaces(),
            "first_step": highest(first.values()),
            "phases": {**build, **last},
            "steady_after": len(self._parts) - 2,
        }


def highest(several: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return the highest of each counter's peaks."""
    result: dict[str, int] = {}
    for peaks in several:
        result |= {name: max(peak, result.get(name, 0)) for name, peak in peaks.items()}
    return result


def steps_until_steady(run: Callable[[], int], reserved_bytes: int) -> int:
    """Run steps until one does not reserve more than its predecessor; return its number.

    The first step allocates gradients, optimizer state and cuBLAS workspaces. Later steps may find
    free blocks in another order and reserve more; at most ``MOST_STEPS`` steps are run. ``run``
    runs a step and returns its peak of reserved bytes; ``reserved_bytes`` is the peak of the first
    step, which has been run.
    """
    number, before, now = 1, 0, reserved_bytes
    while now > before and number < MOST_STEPS:
        number, before, now = number + 1, now, run()
    return number


def gpu_bytes() -> dict[str, int]:
    """Return the device's total and free memory now, and the holders of the rest.

    Memory outside the allocator belongs to the context, the libraries and other processes.
    """
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    return {
        "total_bytes": total,
        "free_bytes": free,
        "reserved_bytes": reserved,
        "outside_bytes": max(0, total - free - reserved),
    }


def free_workspaces() -> int:
    """Free the cuBLAS workspaces; return the bytes that were requested for them.

    Each thread that ran a matmul has a workspace, so two exist after a backward pass. cuBLAS
    allocates them again when it needs them.
    """
    torch.cuda.synchronize()
    key = "requested_bytes.all.current"
    before = torch.cuda.memory_stats().get(key, 0)
    clear: Any = torch._C._cuda_clearCublasWorkspaces  # it has no annotations
    clear()
    return int(before - torch.cuda.memory_stats().get(key, 0))

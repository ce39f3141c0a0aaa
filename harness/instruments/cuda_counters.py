"""Reads the counters of the CUDA caching allocator, and the GPU memory outside the allocator.

The counters are on the CPU, so they are exact even while the GPU is still working. The GPU is
synchronised before each reading, so that the next allocation can free blocks that wait for another
stream. Because of the synchronisation, a kernel's error is raised in the step that launched it.

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
    """Measure the allocator's peaks in a ``with`` block; blocks allocated earlier are included.

    After the ``with`` block, the yielded dict contains the peaks in bytes by their names.
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
    """Measure how much the reserved memory grows inside the ``with`` block."""
    result = Rise("cuda")
    before = torch.cuda.memory_reserved()
    with cuda_peaks() as peaks:
        yield result
    result.rise_bytes = peaks["reserved_peak_bytes"] - before


class PhasePeaks:
    """Measures the peaks of each phase of a step; a repeated phase keeps its highest peaks."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, int]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the peaks inside the ``with`` block for the phase ``name``."""
        with cuda_peaks() as peaks:
            yield
        self.metrics[name] = highest([self.metrics.get(name, peaks), peaks])


class StepPeaks:
    """Measures the peaks of each phase while the network is built and in each later step."""

    def __init__(self) -> None:
        self._parts: list[dict[str, dict[str, int]]] = []

    def next_part(self) -> PhasePeaks:
        """Begin to measure the building of the network or the next step."""
        peaks = PhasePeaks()
        self._parts.append(peaks.metrics)
        return peaks

    @property
    def last(self) -> dict[str, int]:
        """Highest peaks of the last measured step, or of building the network if no step ran."""
        return highest(self._parts[-1].values())

    def metrics(self) -> dict[str, Any]:
        """Return the metrics for a record; the last step is the measured step."""
        build, first, *_, last = self._parts
        return {
            "workspace_bytes": free_workspaces(),
            "first_step": highest(first.values()),
            "phases": {**build, **last},
            "steady_after": len(self._parts) - 2,
        }


def highest(several: Iterable[dict[str, int]]) -> dict[str, int]:
    """For each counter, return the highest of several peaks."""
    result: dict[str, int] = {}
    for peaks in several:
        result |= {name: max(peak, result.get(name, 0)) for name, peak in peaks.items()}
    return result


def steps_until_steady(run: Callable[[], int], reserved_bytes: int) -> int:
    """Run steps until reserved memory stops growing; return the number of steps.

    The first step allocates gradients, optimizer state and cuBLAS workspaces. Later steps may find
    free blocks in another order and reserve more memory. At most ``MOST_STEPS`` steps run. ``run``
    runs a step and returns the step's reserved peak in bytes. ``reserved_bytes`` is the reserved
    peak of the first step, which the caller has run.
    """
    number, before, now = 1, 0, reserved_bytes
    while now > before and number < MOST_STEPS:
        number, before, now = number + 1, now, run()
    return number


def gpu_bytes() -> dict[str, int]:
    """Return the GPU's total, free and reserved bytes, and the bytes outside the allocator.

    Memory outside the allocator belongs to the CUDA context, libraries and other processes.
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
    """Free the cuBLAS workspaces, and return their requested size in bytes.

    Each thread that ran a matmul has a workspace, so two workspaces exist after a backward pass.
    cuBLAS allocates a workspace again at the next matmul.
    """
    torch.cuda.synchronize()
    key = "requested_bytes.all.current"
    before = torch.cuda.memory_stats().get(key, 0)
    clear: Any = torch._C._cuda_clearCublasWorkspaces  # it has no annotations
    clear()
    return int(before - torch.cuda.memory_stats().get(key, 0))

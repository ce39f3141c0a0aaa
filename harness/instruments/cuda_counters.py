"""The CUDA caching allocator's own counters, and the memory that the driver holds outside it.

The counters are the allocator's, kept on the CPU: they are exact, whatever the device has
done by then. The device is synchronised before each reading all the same, so that memory
waiting for another stream is settled and an error of a kernel shows where it happened.

Source: ``torch.cuda.memory_stats``; aten/src/ATen/cuda/CublasHandlePool.cpp (workspaces).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.instruments.rss import Rise

_COUNTERS = ("requested", "allocated", "active", "reserved")


@dataclass
class PeakReading:
    """Peaks over a block, in bytes by the record's names; filled in when the block ends."""

    metrics: dict[str, int] = field(default_factory=dict)


@contextmanager
def cuda_peaks() -> Iterator[PeakReading]:
    """Measure the allocator's peaks over the block; what is there when it begins counts."""
    result = PeakReading()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    try:
        yield result
    finally:
        torch.cuda.synchronize()
        stats = torch.cuda.memory_stats()
        result.metrics = {
            f"{name}_peak_bytes": stats.get(f"{name}_bytes.all.peak", 0) for name in _COUNTERS
        }


@contextmanager
def reserved_rise() -> Iterator[Rise]:
    """Measure how much more of the GPU's memory the allocator holds because of the block."""
    result = Rise("cuda")
    before = torch.cuda.memory_reserved()
    with cuda_peaks() as peaks:
        yield result
    result.rise_bytes = peaks.metrics["reserved_peak_bytes"] - before


class PhasePeaks:
    """The peaks of each phase of a step; if a phase occurs twice, the higher ones."""

    def __init__(self) -> None:
        self.metrics: dict[str, dict[str, int]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block to phase ``name``."""
        with cuda_peaks() as peaks:
            yield
        known = self.metrics.setdefault(name, peaks.metrics)
        for counter, peak in peaks.metrics.items():
            known[counter] = max(known[counter], peak)


def gpu_bytes() -> dict[str, int]:
    """Return the device's total and free memory now, and who holds the rest.

    Outside the allocator: the context, the libraries' own memory, and other processes.
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
    """Free cuBLAS's workspaces; return how many bytes they had requested.

    One for each thread that has multiplied, so two after a backward pass. cuBLAS makes them
    anew when it needs them.
    """
    torch.cuda.synchronize()
    key = "requested_bytes.all.current"
    before = torch.cuda.memory_stats().get(key, 0)
    clear: Any = torch._C._cuda_clearCublasWorkspaces  # it has no annotations
    clear()
    return int(before - torch.cuda.memory_stats().get(key, 0))

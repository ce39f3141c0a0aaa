"""The CUDA caching allocator's own counters, and what the driver holds outside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

_COUNTERS = {
    "requested_peak_bytes": "requested_bytes.all.peak",
    "allocated_peak_bytes": "allocated_bytes.all.peak",
    "active_peak_bytes": "active_bytes.all.peak",
    "reserved_peak_bytes": "reserved_bytes.all.peak",
}


@dataclass
class CudaPeaks:
    """Peaks over a block, in bytes by the record's names; filled in when the block ends."""

    figures: dict[str, int] = field(default_factory=dict)


@contextmanager
def cuda_peaks() -> Iterator[CudaPeaks]:
    """Measure the allocator's peaks over the block, synchronised before each reading."""
    result = CudaPeaks()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    try:
        yield result
    finally:
        torch.cuda.synchronize()
        stats = torch.cuda.memory_stats()
        result.figures = {name: stats[key] for name, key in _COUNTERS.items()}
        result.figures["outside_bytes"] = _outside_bytes(stats)


def _outside_bytes(stats: dict[str, int]) -> int:
    """Bytes of the device in use but not reserved here: context, libraries, other processes."""
    free, total = torch.cuda.mem_get_info()
    return max(0, total - free - stats["reserved_bytes.all.current"])

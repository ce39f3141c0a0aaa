"""The CUDA allocator's own log, which knows requested bytes where the profiler knows blocks.

PyTorch's profiler reports a CUDA block with its size in the pool, rounded up, and with the
operators around it; the log of ``torch.cuda.memory._record_memory_history`` reports the bytes
that were requested. Both describe the same blocks at the same addresses in the same order;
if they do not, nothing that follows from them would be true, so that is an error.

Source: c10/cuda/CUDACachingAllocator.cpp (``record_trace``, ``reportMemoryUsageToProfiler``).
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch


class LogMismatchError(RuntimeError):
    """The profiler and the allocator's log do not describe the same blocks."""


class Entry(NamedTuple):
    """A block allocated (``size_bytes`` > 0) or freed (< 0), in requested bytes."""

    size_bytes: int
    address: int


class AllocationLog:
    """Records the log of the current device between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def start(self) -> None:
        """Begin to record."""
        torch.cuda.init()  # type: ignore[no-untyped-call]  # to ask before that ends the process
        if torch._C._cuda_isHistoryEnabled():
            raise LogMismatchError("the CUDA allocator's history is being recorded already")
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python")

    def stop(self) -> None:
        """End the recording and read it."""
        snapshot: Any = torch.cuda.memory._snapshot
        traces = snapshot()["device_traces"]
        torch.cuda.memory._record_memory_history(None)
        device = torch.cuda.current_device()
        self.entries = list(_entries(traces[device] if device < len(traces) else ()))


def _entries(trace: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    """Yield blocks allocated and freed; blocks from before the log began are never freed."""
    known: set[int] = set()
    for entry in trace:
        address = entry["addr"]
        if entry["action"] == "alloc":
            known.add(address)
            yield Entry(entry["size"], address)
        elif entry["action"] == "free_requested" and address in known:
            known.discard(address)
            yield Entry(-entry["size"], address)

"""Reads the CUDA allocator's log, which contains the requested size of each block.

PyTorch's profiler reports the operators that allocate a CUDA block, and the block's rounded size.
The log of ``torch.cuda.memory._record_memory_history`` reports the requested size. The profiler and
the log describe the same blocks at the same addresses in the same order. Only the log contains the
frees of threads that are not profiled. If the profiler and the log report different blocks or
another order, LogMismatchError is raised.

Source: c10/cuda/CUDACachingAllocator.cpp (``record_trace``, ``reportMemoryUsageToProfiler``).
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch

from harness.schema.errors import UnsupportedError


class LogMismatchError(UnsupportedError):
    """The profiler and the allocator's log do not describe the same blocks."""

    def __init__(self, difference: str) -> None:
        threads = "as where threads of the step allocate at once"
        super().__init__(f"the order of allocations is not known, {threads}: {difference}")


class Entry(NamedTuple):
    """Allocation or free of a block; ``size_bytes`` is the requested size, negative for a free."""

    size_bytes: int
    address: int


class AllocationLog:
    """Records the log of the current device between ``start`` and ``stop``.

    If PyTorch already records the log, e.g. in a dry run, ``stop`` does not end that recording.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._others_events: int | None = None

    def start(self) -> None:
        """Begin to record."""
        torch.cuda.init()  # type: ignore[no-untyped-call]  # to ask before that ends the process
        if torch._C._cuda_isHistoryEnabled():
            self._others_events = len(_recorded())
        else:
            torch.cuda.memory._record_memory_history("all", context=None, stacks="python")

    def stop(self) -> None:
        """Stop the recording, and store the log in ``entries``."""
        events = _recorded()
        if self._others_events is None:
            torch.cuda.memory._record_memory_history(None)
        self.entries = list(_entries(events[self._others_events or 0 :]))


def _recorded() -> list[dict[str, Any]]:
    snapshot: Any = torch.cuda.memory._snapshot
    traces: list[list[dict[str, Any]]] = snapshot()["device_traces"]
    device = torch.cuda.current_device()
    return traces[device] if device < len(traces) else []


def _entries(trace: Iterable[dict[str, Any]]) -> Iterator[Entry]:
    """Yield allocations and frees, except frees of blocks that are older than the log."""
    known: set[int] = set()
    for entry in trace:
        action = entry["action"]  # one that was refused ("oom") has no address
        if action == "alloc":
            known.add(entry["addr"])
            yield Entry(entry["size"], entry["addr"])
        elif action == "free_requested" and entry["addr"] in known:
            known.discard(entry["addr"])
            yield Entry(-entry["size"], entry["addr"])

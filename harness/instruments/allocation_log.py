"""The CUDA allocator's own log, which has requested bytes; the profiler has block sizes.

PyTorch's profiler reports the operators around a CUDA block and its size in the pool, which is
rounded up. The log of ``torch.cuda.memory._record_memory_history`` reports the requested bytes.
Both describe the same blocks at the same addresses in the same order. Only the log has the frees of
a thread that is not profiled. Any other difference is an error, because conclusions from it would
be wrong.

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
    """A block allocated (``size_bytes`` > 0) or freed (< 0), in requested bytes."""

    size_bytes: int
    address: int


class AllocationLog:
    """Records the log of the current device between ``start`` and ``stop``.

    If another recording is active, e.g. of the dry run, its log is read and not ended.
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
        """End the recording and read it."""
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
    """Yield allocations and frees; frees of blocks that are older than the log are left out."""
    known: set[int] = set()
    for entry in trace:
        action = entry["action"]  # one that was refused ("oom") has no address
        if action == "alloc":
            known.add(entry["addr"])
            yield Entry(entry["size"], entry["addr"])
        elif action == "free_requested" and entry["addr"] in known:
            known.discard(entry["addr"])
            yield Entry(-entry["size"], entry["addr"])

"""Growth of the host in a dry run: what the script's process keeps after each optimizer step.

What is allocated is counted, not what is resident: an allocator that warms up or is fragmented
takes pages with nothing more in them. The recording itself grows, and is left out.
"""

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence

from harness.dry_runs.history import NOT_KEPT, History, HistoryEvent
from harness.measurement.malloc_policy import glibc
from harness.schema.growth import Growth, series_growth

_CONTEXT_BYTES, _FRAME_BYTES, _ENTRY_BYTES = 160, 16, 168
"""Bytes of the stack that PyTorch keeps of an event, of a frame in it (a vector, whose
capacity doubles), and of the event (104 up to 2.14): measured on 2.11 to 2.15."""
_OBJECT_BYTES = 64
"""Bytes of a small object of Python, about."""
_LEAST_BYTES = 128 << 10
"""Clean programs drift by up to 60 KiB a step until garbage in cycles is collected (torch 2.11)."""
_SHARE = 8
"""The recording is known to a few percent: growth is more than an eighth of what it takes."""
_LEAST_HEAP = 16 << 20
"""PyTorch takes more; less was counted if another allocator, such as jemalloc, is in use."""


def host_bytes() -> int:
    """Return what the process has allocated: from glibc, and small objects of Python."""
    return _heap_bytes() + _OBJECT_BYTES * sys.getallocatedblocks()


def every_step(kept: Mapping[int, int]) -> list[int]:
    """Return bytes at the end of each step, given those of some steps: between two on a line.

    >>> every_step({1: 10, 2: 20, 4: 60})
    [10, 20, 40, 60]
    """
    steps = list(kept)
    sizes = list(kept.values())[:1]
    for before, after in itertools.pairwise(steps):
        rise = kept[after] - kept[before]
        length = after - before
        sizes += [kept[before] + rise * part // length for part in range(1, length + 1)]
    return sizes


def own_bytes(of: Mapping[int, str]) -> int:
    """Return what a dictionary of the recording takes of that."""
    return sys.getsizeof(of) + _OBJECT_BYTES * len(of)


def host_growth(kept: Sequence[int], histories: Iterable[History]) -> Growth:
    """Return the growth of the host, given what it kept at the end of each optimizer step."""
    if _heap_bytes() < _LEAST_HEAP:
        return Growth(kind="unknown", reason="the heap of the host is not glibc's")
    count, doubled, recorded = len(kept), set[int](), 0
    for history in histories:
        if (ends := history.ends_in_events) is None:
            return Growth(kind="unknown", reason=NOT_KEPT)
        stacks = [0, *itertools.accumulate(map(_stack_bytes, history.events))]
        kept = [size - stacks[end] for size, end in zip(kept, ends, strict=False)]
        recorded += stacks[-1] // max(1, count)
        sizes = itertools.pairwise(map(_capacity, ends))
        doubled |= {step for step, (before, after) in enumerate(sizes, 1) if before != after}
    rises = [after - before for before, after in itertools.pairwise(kept)]
    for step in doubled:  # the vector of events moved
        rises[step - 1] = min(rises[step - 1], sorted(rises)[len(rises) // 2])
    kept = list(itertools.accumulate(rises, initial=kept[0])) if kept else []
    return series_growth(kept, max(_LEAST_BYTES, recorded // _SHARE))


def history_bytes(history: History) -> int:
    """Return what PyTorch wrote to for its history of a device."""
    return sum(map(_stack_bytes, history.events)) + _ENTRY_BYTES * len(history.events)


def _stack_bytes(event: HistoryEvent) -> int:
    if event["action"] not in ("alloc", "free_requested"):
        return 0
    return _CONTEXT_BYTES + _FRAME_BYTES * _capacity(len(event["frames"]))


def _capacity(count: int) -> int:
    return 1 << (count - 1).bit_length() if count else 0


def _heap_bytes() -> int:
    """Return what is allocated from glibc's heap, in arenas and as mappings (mallinfo(3))."""
    libc = glibc()
    sizes = [0] * 8 if libc is None else libc.mallinfo2().sizes
    return int(sizes[4] + sizes[7])

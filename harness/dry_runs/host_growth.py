"""Measures the growth of host memory: bytes that stay allocated after each optimizer step.

This module uses allocated bytes, not resident bytes, because a fragmented allocator can occupy more
pages for the same objects. The growth of the recording's own data is subtracted.
"""

import itertools
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.dry_runs.call_sites import capacity
from harness.processes.malloc_policy import glibc
from harness.schema.growth import Growth, series_growth

_OBJECT_BYTES = 64
"""Approximate size of a small Python object, in bytes."""
_LEAST_BYTES = 128 << 10
"""Smallest growth per step that counts as a leak, in bytes. Programs without a leak drift by up to
60 KiB before a garbage collection (torch 2.11)."""
_SHARE = 8
"""A leak must exceed 1/8 of the recording's growth, because the estimate of that growth has an
error of a few percent."""
_LEAST_HEAP = 16 << 20
"""Smallest glibc heap of a PyTorch process, in bytes; below this size, malloc is not glibc's."""
_ALL_STEPS, _HOST_SHARE = 50, 100
"""Host memory is measured after each of the first 50 steps; later measurements use at most 1% of
the CPU time."""


class HostSteps:
    """Allocated host bytes at the end of each step, without the bytes of the recording.

    Until PyTorch's memory history is first processed, its size is estimated from its stack traces
    and subtracted. Later, host memory is measured just after the history was processed and emptied.
    """

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}
        self._due = 0.0
        self._folded = False
        self._offset: int | None = None

    def look(self, step: int, own: int) -> None:
        """Record allocated host bytes after a step; skip some steps of a long run to save time."""
        begin = time.thread_time()
        if begin < self._due or self._folded:
            return
        self._kept[step] = host_bytes() - own
        now = time.thread_time()
        self._due = now + _HOST_SHARE * (now - begin) if step > _ALL_STEPS else 0.0

    def leave_out(self, ended: Sequence[Sequence[tuple[int, int]]]) -> None:
        """When the memory history is first processed, subtract its size from each step's bytes.

        Args:
            ended: for each device and step, the event count and the stack bytes at the step's end.
        """
        if self._folded:
            return
        self._folded = True
        kept, doubled = every_step(self._kept), set[int]()
        for ends in ended:
            kept = [size - stacks for size, (_, stacks) in zip(kept, ends, strict=False)]
            sizes = itertools.pairwise(capacity(position) for position, _ in ends[: len(kept)])
            doubled |= {step for step, (before, after) in enumerate(sizes, 1) if before != after}
        rises = [after - before for before, after in itertools.pairwise(kept)]
        for step in doubled:  # the vector of events moved
            rises[step - 1] = min(rises[step - 1], sorted(rises)[len(rises) // 2])
        first = min(self._kept, default=0)
        kept = list(itertools.accumulate(rises, initial=kept[0])) if kept else []
        self._kept = dict(enumerate(kept, first))

    def look_after_fold(self, step: int, own: int) -> None:
        """Record allocated host bytes at a step's end, just after the history was processed."""
        size = host_bytes() - own
        if self._offset is None:  # no more is kept than after the last step that was looked at
            last = max(self._kept, default=0)
            self._offset = size - self._kept.get(last, size)
        self._kept[step] = size - self._offset

    def growth(self, stack_bytes: int) -> Growth:
        """Return the host memory's growth; ``stack_bytes`` is the size of recorded stack traces."""
        if _heap_bytes() < _LEAST_HEAP:
            return Growth(kind="unknown", reason="the heap of the host is not glibc's")
        kept = every_step(self._kept)
        return series_growth(kept, max(_LEAST_BYTES, stack_bytes // max(1, len(kept)) // _SHARE))


def host_bytes() -> int:
    """Return the bytes that the process has allocated from glibc and for small Python objects."""
    return _heap_bytes() + _OBJECT_BYTES * sys.getallocatedblocks()


def resident_bytes() -> int:
    """Return the resident bytes of the process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def anonymous_bytes() -> int:
    """Return the resident bytes of the process, without file-backed pages."""
    _, resident, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - of_files) * resource.getpagesize()


def every_step(kept: Mapping[int, int]) -> list[int]:
    """Return bytes at the end of each step, interpolated linearly between the given steps.

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
    """Return the approximate size of one of the recording's dictionaries, in bytes."""
    return sys.getsizeof(of) + _OBJECT_BYTES * len(of)


def _heap_bytes() -> int:
    """Return the bytes that glibc's malloc has allocated, including mappings (mallinfo(3))."""
    libc = glibc()
    sizes = [0] * 8 if libc is None else libc.mallinfo2().sizes
    return int(sizes[4] + sizes[7])

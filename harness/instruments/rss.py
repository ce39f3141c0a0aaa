"""Measures the peak RSS of a process during a step, using the kernel's counters.

Linux records the peak of the RSS (VmHWM) and resets the peak on request, so no peak is missed.
``ru_maxrss`` cannot be used, because in a forked child it includes the parent's memory. If the
kernel does not have VmHWM, a thread samples the RSS with psutil.

The measured peak of a small step can be too low for two reasons. First, a new block may use free
heap pages that are still resident, so ``arranged_rise`` releases free pages before the step.
Second, the kernel counts pages for each processor, and updates the total only after a batch of
max(32, 2 x processors) pages. Since Linux 6.16, the reported RSS is exact, but the peak is not. So
``arranged_rise`` makes the kernel update the page total before the step, and keeps the step on one
processor. The peak may not include the step's last batch of pages. Each repeat of a step begins at
a different position in a batch of pages, so the spread of the repeats shows the error, and the
median is accurate.

Source: Documentation/filesystems/proc.rst (clear_refs, status) and mm_types.h (rss_stat),
lib/percpu_counter.c of the Linux kernel; malloc_trim(3).
"""

import ctypes
import functools
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_MAPS = Path("/proc/self/maps")
_SAMPLE_SECONDS = 0.001


@dataclass
class Rise:
    """Increase of a process's memory in a ``with`` block; the fields are set at its end."""

    source: str
    """Source of the peak: ``VmHWM`` (kernel), ``psutil`` (sampled each millisecond) or ``cuda``."""
    rise_bytes: int = 0
    peak_bytes: int = 0
    """Peak memory of the process, in bytes."""
    lost_bytes: int = 0
    """Bytes that were resident before the ``with`` block but not after it, e.g. library pages that
    the kernel removed. ``peak_bytes`` may not include the lost bytes."""


_GOLDEN = 0.618
"""Inverse golden ratio, whose multiples have evenly spread fractional parts."""


@contextmanager
def arranged_rise(number: int) -> Iterator[Rise]:
    """Prepare the heap and the kernel's counters, and then measure like ``resident_rise``.

    ``number`` is the index of the repeat. Memory that the preparation uses is not included.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    batch = max(32, 2 * (os.cpu_count() or 1))
    apart = int(batch * (number * _GOLDEN % 1)) * mmap.PAGESIZE
    slack = 2 * batch * mmap.PAGESIZE
    with _settled_counts(slack), _touched(apart):
        with resident_rise() as result:
            yield result
        result.peak_bytes -= apart
        result.lost_bytes *= result.lost_bytes > slack  # less is what the kernel has not counted


@contextmanager
def _settled_counts(size: int) -> Iterator[None]:
    """Make the kernel add each processor's page count to the total, then stay on one processor.

    Incomplete batches are also added, because ``size`` bytes of each page kind are freed at once.
    """
    allowed = os.sched_getaffinity(0)
    try:
        for processor in sorted(allowed):
            with suppress(OSError):  # taken from this process meanwhile
                os.sched_setaffinity(0, {processor})
            with _touched(size), _touched(size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS):
                pass
            path = _largest_file()
            with path.open("rb") as file:
                _map(file.fileno(), min(size, path.stat().st_size), mmap.MAP_PRIVATE).close()
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _touched(size: int, flags: int = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) -> Iterator[None]:
    """Allocate ``size`` bytes of resident memory during the ``with`` block."""
    if not size:
        yield
        return
    with _map(-1, size, flags, mmap.PROT_READ | mmap.PROT_WRITE):
        yield


def _map(file: int, size: int, flags: int, rights: int = mmap.PROT_READ) -> mmap.mmap:
    return mmap.mmap(file, size, flags=flags | mmap.MAP_POPULATE, prot=rights)


@functools.cache
def _largest_file() -> Path:
    """Return the path of the largest file that this process has mapped."""
    names = {line.split(maxsplit=5)[5] for line in _MAPS.read_text().splitlines() if "/" in line}
    return max(
        (path for path in map(Path, names) if path.is_file()), key=lambda p: p.stat().st_size
    )


@contextmanager
def resident_rise() -> Iterator[Rise]:
    """Measure the increase of the RSS inside the ``with`` block.

    Discard a process's first measurement, because the kernel's peak is not yet steady.
    """
    if _has_kernel_mark():
        yield from _kernel_rise()
    else:
        yield from _sampled_rise()


def _has_kernel_mark() -> bool:
    """Return whether the kernel can reset the peak of the RSS (Linux with writable ``/proc``)."""
    try:
        _CLEAR.write_text("5")
        return status_bytes("VmHWM") > 0
    except (OSError, KeyError):
        return False


def _kernel_rise() -> Iterator[Rise]:
    result = Rise("VmHWM")
    _CLEAR.write_text("5")
    before = _status_sizes()
    try:
        yield result
    finally:
        after = _status_sizes()
        result.peak_bytes = after["VmHWM"]
        result.rise_bytes = result.peak_bytes - before["VmRSS"]
        result.lost_bytes = sum(max(0, before[kind] - after[kind]) for kind in _KINDS)


_KINDS = ("RssAnon", "RssFile", "RssShmem")


def status_bytes(name: str) -> int:
    """Return a size from ``/proc/self/status``, in bytes."""
    return _status_sizes()[name]


def _status_sizes() -> dict[str, int]:
    """Return all sizes from ``/proc/self/status``, in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {line[0][:-1]: int(line[1]) << 10 for line in lines if line[-1] == "kB"}


def _sampled_rise() -> Iterator[Rise]:
    import psutil

    process = psutil.Process()
    before = highest = process.memory_info().rss
    done = threading.Event()

    def sample() -> None:
        nonlocal highest
        while not done.wait(_SAMPLE_SECONDS):
            highest = max(highest, process.memory_info().rss)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    result = Rise("psutil")
    try:
        yield result
    finally:
        done.set()
        sampler.join()
        result.peak_bytes = max(highest, process.memory_info().rss)
        result.rise_bytes = result.peak_bytes - before

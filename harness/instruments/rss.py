"""A process's resident memory: the most that it held during a step, by the kernel.

Linux keeps the high-water mark itself (VmHWM) and resets it on request, so no sampling
thread is needed and no peak is missed. ``ru_maxrss`` will not do: in a forked child it
includes what the parent held. Elsewhere psutil's resident size is sampled.

The mark is not exact: the kernel counts pages per processor and adds a processor's count to
the total only when it has grown by a batch of max(32, 2 x processors) pages.

Source: Documentation/filesystems/proc.rst (clear_refs, status) and mm_types.h (rss_stat),
lib/percpu_counter.c of the Linux kernel.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SAMPLE_SECONDS = 0.001


@dataclass
class Rise:
    """Rise of a process's memory above its value before; filled in when the block ends."""

    source: str
    """``VmHWM`` (the kernel's mark), ``psutil`` (sampled each millisecond) or ``cuda``."""
    rise_bytes: int = 0


@contextmanager
def resident_rise() -> Iterator[Rise]:
    """Measure the rise of the resident size over the block.

    The first use of a process should not count: the kernel's mark needs one warm-up pass
    of the same size, like any steady-state metric.
    """
    if _has_kernel_mark():
        yield from _kernel_rise()
    else:
        yield from _sampled_rise()


def _has_kernel_mark() -> bool:
    """Return whether the kernel resets its mark for us (Linux, /proc writable)."""
    try:
        _CLEAR.write_text("5")
        return _status_bytes("VmHWM") > 0
    except (OSError, KeyError):
        return False


def _kernel_rise() -> Iterator[Rise]:
    result = Rise("VmHWM")
    _CLEAR.write_text("5")
    before = _status_bytes("VmRSS")
    try:
        yield result
    finally:
        result.rise_bytes = _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    """Return a field of /proc/self/status, which counts in KiB."""
    for line in _STATUS.read_text().splitlines():
        key, _, rest = line.partition(":")
        if key == name:
            return int(rest.split()[0]) * 1024
    raise KeyError(name)


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
        result.rise_bytes = max(highest, process.memory_info().rss) - before

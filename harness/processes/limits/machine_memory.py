"""Finds the memory that is available on this machine, and refuses larger requests.

If a step needs more than the available memory, the kernel's OOM killer may kill any process. A
memory cgroup that contains this process may allow less memory than the machine has.

Source: proc_meminfo(5), MemAvailable; Documentation/admin-guide/cgroup-v1/memory.rst and
cgroup-v2.rst of the Linux kernel.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.processes.limits import cgroup
from harness.schema.errors import UnavailableError
from harness.schema.units import format_bytes

_UNLIMITED = 1 << 60
"""Size above which a cgroup's limit means no limit, in bytes."""


class MemoryUnavailableError(UnavailableError):
    """More memory is requested than is available; the message contains both sizes.

    >>> import harness
    >>> harness.measure(harness.Workload(batch=10**9))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness...MemoryUnavailableError: the workload is predicted to need 5.653 TiB ...
    """


@dataclass(frozen=True, kw_only=True)
class Available:
    """Bytes that a new process can allocate, and the name of the limit that is reached first."""

    bytes: int
    source: str


def available() -> Available:
    """Return the memory that the machine and the cgroups of this process still allow."""
    try:
        machine_bytes = psutil.virtual_memory().available
    except OSError as error:
        raise MemoryUnavailableError(f"the free memory is unknown: {error}; see doctor") from None
    machine = Available(bytes=machine_bytes, source="MemAvailable")
    groups = [
        Available(bytes=max(0, limit - used), source=f"the limit of cgroup {place}")
        for place, limit, used in _limited_groups()
    ]
    return min([machine, *groups], key=lambda each: each.bytes)


def limit_bytes() -> int:
    """Return the machine's memory with swap, or the smallest cgroup limit if that is smaller."""
    machine = int(psutil.virtual_memory().total + psutil.swap_memory().total)
    return min([machine, *(limit for _, limit, _ in _limited_groups())])


def refuse_more_than_available(name: str, needed_bytes: int, hint: str) -> None:
    """Raise MemoryUnavailableError if ``needed_bytes`` exceed the available memory."""
    there = available()
    if needed_bytes > there.bytes:
        given, most = format_bytes(needed_bytes), format_bytes(there.bytes)
        rule = f"{most} ({there.bytes:,} B) are available by {there.source}"
        raise MemoryUnavailableError(f"{name} {given} ({needed_bytes:,} B): only {rule}; {hint}")


def _limited_groups() -> Iterator[tuple[Path, int, int]]:
    """Yield the folder, the limit and the used bytes of each cgroup that limits this process.

    Inactive file pages are not counted as used, because the kernel drops these pages first.
    """
    for version, place in cgroup.places():
        names = cgroup.VERSIONS[version]
        try:
            limit = int((place / names.limit[0]).read_text())
            used = int((place / names.usage).read_text())
        except (OSError, ValueError):  # no memory controller here, or "max"
            continue
        if limit < _UNLIMITED:
            lines = (place / "memory.stat").read_text().splitlines()
            counts = dict(line.split(" ") for line in lines)
            droppable = counts.get("total_inactive_file", counts.get("inactive_file", "0"))
            yield place, limit, max(0, used - int(droppable))

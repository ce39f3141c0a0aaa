"""Gathers what a process holds in huge pages, so that its forks copy few page table entries.

A fork copies an entry for each small page that its parent holds, and takes it back at its end:
with torch loaded, more than half of what a small cell costs. A huge page is one entry. Where a
child writes to one, the kernel copies a small page, as it does without.

Only ranges whose small pages are all in memory are gathered, so that no page becomes resident
that was not, and a child's rise is what it was.

Source: madvise(2), MADV_COLLAPSE (Linux 6.1); Documentation/admin-guide/mm/pagemap.rst.
"""

import contextlib
import ctypes
import itertools
import mmap
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

HUGE_BYTES = 2 << 20
_ENTRY_BYTES = 8
_PRESENT = 1 << 63
_MADV_COLLAPSE = 25
_MAPS, _PAGEMAP = Path("/proc/self/maps"), Path("/proc/self/pagemap")


def gather() -> int:
    """Gather this process's memory in huge pages where the kernel does; return the bytes.

    Huge pages must be allowed to the process meanwhile.
    """
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with contextlib.suppress(OSError):
        runs = list(_full_runs())
        return sum(size for begin, size in runs if not libc.madvise(begin, size, _MADV_COLLAPSE))
    return 0  # the kernel does not show which pages are in memory


def _full_runs() -> Iterator[tuple[int, int]]:
    """Yield address and size of each run of aligned ranges that are wholly in memory."""
    with _PAGEMAP.open("rb", buffering=0) as pagemap:
        for begin, end in _own_memory():
            first = -(-begin // HUGE_BYTES) * HUGE_BYTES
            places = range(first, end - HUGE_BYTES + 1, HUGE_BYTES)
            for is_full, run in itertools.groupby(places, lambda place: _is_full(pagemap, place)):
                addresses = list(run)
                if is_full:
                    yield addresses[0], len(addresses) * HUGE_BYTES


def _own_memory() -> Iterator[tuple[int, int]]:
    """Yield where each mapping begins and ends that is private, writable and of no file."""
    for line in _MAPS.read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights.startswith("rw-p") and name in ([], ["[heap]"]):
            begin, end = (int(address, 16) for address in addresses.split("-"))
            yield begin, end


def _is_full(pagemap: IO[bytes], address: int) -> bool:
    """Return whether each small page of the huge page at ``address`` is in memory."""
    pagemap.seek(address // mmap.PAGESIZE * _ENTRY_BYTES)
    entries = array("Q", pagemap.read(HUGE_BYTES // mmap.PAGESIZE * _ENTRY_BYTES))
    return all(entry & _PRESENT for entry in entries)

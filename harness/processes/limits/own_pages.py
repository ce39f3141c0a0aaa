"""Copies and counts the pages of forked processes, and combines them into huge pages.

A forked process and its parent share a page until one of these processes writes to it. At the first
write, the kernel copies the page and charges the copy to the writer's cgroup. The kernel also
creates a page table when a forked process first runs inherited code. Copies and page tables need
hundreds of pages, and the number of these pages differs from run to run. ``make_own`` creates the
copies and page tables in advance, so that a new cgroup is charged only for later allocations.

A fork also copies a page-table entry for each page of its parent. After torch is loaded, copying
these entries takes a third of the time of a small measurement. ``gather`` combines pages into huge
pages, which have one entry each. ``gather`` only combines ranges whose pages are all in memory, so
that no other page becomes resident.

Source: madvise(2), MADV_POPULATE_READ and MADV_POPULATE_WRITE (Linux 5.14), MADV_COLLAPSE (6.1);
mincore(2); Documentation/admin-guide/mm/pagemap.rst; membarrier(2);
mm/mmu_gather.c (``tlb_remove_table``).
"""

import ctypes
import functools
import itertools
import mmap
import platform
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from harness.instruments.host_pages import page_sums

_READ, _WRITE, _COLLAPSE = 22, 23, 25
"""MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE."""
HUGE_BYTES = 2 << 20
"""Size of a huge page, and of the memory that one page table maps, in bytes."""
_ENTRY_BYTES, _PRESENT = 8, 1 << 63
_MAPS, _PAGEMAP = Path("/proc/self/maps"), Path("/proc/self/pagemap")
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
"""Number of the system call ``membarrier`` by machine type; glibc has no function for it."""
_GLOBAL = 1
"""Argument MEMBARRIER_CMD_GLOBAL, which waits for a grace period of the kernel's RCU."""


class Range(NamedTuple):
    """Range of addresses of this process, in whole pages."""

    begin: int
    end: int

    def parts(self) -> "Iterator[Range]":
        """Split the range into parts that need one page table each."""
        begin = self.begin
        while begin < self.end:
            end = min(self.end, (begin // HUGE_BYTES + 1) * HUGE_BYTES)
            yield Range(begin, end)
            begin = end

    def present(self, pagemap: IO[bytes]) -> list[bool]:
        """Return a list of booleans, True for each page that is in memory."""
        pagemap.seek(self.begin // mmap.PAGESIZE * _ENTRY_BYTES)
        pages = (self.end - self.begin) // mmap.PAGESIZE
        entries = array("Q", pagemap.read(pages * _ENTRY_BYTES))
        return [entry >= _PRESENT for entry in entries]

    def runs(self, pagemap: IO[bytes]) -> "Iterator[Range]":
        """Yield each range of consecutive pages that are in memory."""
        at = self.begin
        for there, pages in itertools.groupby(self.present(pagemap)):
            end = at + len(list(pages)) * mmap.PAGESIZE
            if there:
                yield Range(at, end)
            at = end


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    return libc


def _advise(place: Range, advice: int) -> bool:
    """Call ``madvise`` for a range; return whether the kernel accepted the advice."""
    return not _libc().madvise(place.begin, place.end - place.begin, advice)


def _private_mappings() -> Iterator[tuple[Range, str, str]]:
    """Yield the range, the rights and the name of each readable private mapping."""
    for line in _MAPS.read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights[0] == "r" and rights[3] == "p" and name not in (["[vvar]"], ["[vdso]"]):
            begin, end = (int(address, 16) for address in addresses.split("-"))
            yield Range(begin, end), rights, "".join(name)


def make_own() -> None:
    """Copy all writable pages of this process, and create page tables for the other pages.

    File pages are mapped only if they are in memory, so nothing is read from disk. The function
    does nothing before Linux 5.14, or if the kernel does not show which pages are in memory.
    """
    with suppress(OSError), _PAGEMAP.open("rb", buffering=0) as pagemap:
        for place, rights, name in _private_mappings():
            if rights[1] == "w" and not name.startswith("/"):
                _advise(place, _WRITE)
                continue
            for part in place.parts():
                if rights[1] == "w":
                    if any(part.present(pagemap)):
                        _advise(part, _WRITE)
                elif (page := _cached_page(part)) is not None:
                    _advise(page, _READ)


def pages_of_files() -> "tuple[Range, ...]":
    """Return the ranges of file pages that are in memory, or an empty tuple if unknown."""
    with suppress(OSError), _PAGEMAP.open("rb", buffering=0) as pagemap:
        places = [place for place, _, name in _private_mappings() if name.startswith("/")]
        return tuple(run for place in places for run in place.runs(pagemap))
    return ()


def map_pages(places: "Iterable[Range]") -> bool:
    """Map the pages of the ranges ``places`` into this process.

    Return False if the kernel cannot map pages in advance (before Linux 5.14).
    """
    return all(_advise(place, _READ) for place in places)


def _cached_page(part: Range) -> Range | None:
    """Return the first page of ``part`` that is in memory, or None."""
    held = ctypes.create_string_buffer((part.end - part.begin) // mmap.PAGESIZE)
    _libc().mincore(part.begin, part.end - part.begin, held)
    index = held.raw.find(b"\1")
    begin = part.begin + index * mmap.PAGESIZE
    return None if index < 0 else Range(begin, begin + mmap.PAGESIZE)


def gather() -> int:
    """Combine this process's pages into huge pages; return the number of combined bytes.

    Call ``allow_huge_pages(True)`` before this function.
    """
    with suppress(OSError), _PAGEMAP.open("rb", buffering=0) as pagemap:
        full = [
            part
            for place, rights, name in _private_mappings()
            if rights == "rw-p" and name in ("", "[heap]")
            for part in place.parts()
            if part.end - part.begin == HUGE_BYTES and all(part.present(pagemap))
        ]
        return HUGE_BYTES * sum(_advise(part, _COLLAPSE) for part in full)
    return 0  # the kernel does not show which pages are in memory


def await_freed_tables() -> None:
    """Wait until the kernel has freed the page tables of memory that this process freed.

    The process's cgroup is charged for page tables until the kernel has freed them. In
    measurements, the kernel freed the page tables after 8–32 ms.
    """
    number = _MEMBARRIER.get(platform.machine())
    if number is not None:
        _libc().syscall(number, _GLOBAL, 0, 0)


def written_bytes() -> int | None:
    """Return the bytes of written pages that only this process uses, or None if unknown."""
    with suppress(OSError, KeyError):
        return page_sums()["Private_Dirty"]
    return None

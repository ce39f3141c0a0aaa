"""Copies, counts and gathers the memory of forked processes, page by page.

A forked process shares its pages with its parent until one of the two writes to them. Then the
kernel copies the page and charges the copy to the writer's cgroup. The kernel also makes a page
table when the process first touches code that its parent has loaded. Both cost hundreds of pages, a
number that differs from run to run. ``make_own`` does both beforehand, so that a process's own
group is charged only for memory that it allocates there.

A fork also copies an entry for each small page of its parent. With torch loaded, this takes a third
of the time of a small cell. A huge page has one entry (``gather``). Only ranges whose small pages
are all in memory are gathered, so that no other page becomes resident.

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
"""Bytes of a huge page, which are the bytes that one page table maps."""
_ENTRY_BYTES, _PRESENT = 8, 1 << 63
_MAPS, _PAGEMAP = Path("/proc/self/maps"), Path("/proc/self/pagemap")
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
"""The number of the system call; glibc has no function for it."""
_GLOBAL = 1
"""MEMBARRIER_CMD_GLOBAL, which returns after a grace period of the kernel's RCU."""


class Range(NamedTuple):
    """Addresses of this process, of whole pages."""

    begin: int
    end: int

    def parts(self) -> "Iterator[Range]":
        """Yield parts that one page table each maps."""
        begin = self.begin
        while begin < self.end:
            end = min(self.end, (begin // HUGE_BYTES + 1) * HUGE_BYTES)
            yield Range(begin, end)
            begin = end

    def present(self, pagemap: IO[bytes]) -> list[bool]:
        """Return a truth value for each page: True if the page is in memory."""
        pagemap.seek(self.begin // mmap.PAGESIZE * _ENTRY_BYTES)
        pages = (self.end - self.begin) // mmap.PAGESIZE
        entries = array("Q", pagemap.read(pages * _ENTRY_BYTES))
        return [entry >= _PRESENT for entry in entries]

    def runs(self, pagemap: IO[bytes]) -> "Iterator[Range]":
        """Yield each run of pages that are in memory."""
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
    """Return whether the kernel accepted the advice."""
    return not _libc().madvise(place.begin, place.end - place.begin, advice)


def _private_mappings() -> Iterator[tuple[Range, str, str]]:
    """Yield each readable private mapping with its rights and its name."""
    for line in _MAPS.read_text().splitlines():
        addresses, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights[0] == "r" and rights[3] == "p" and name not in (["[vvar]"], ["[vdso]"]):
            begin, end = (int(address, 16) for address in addresses.split("-"))
            yield Range(begin, end), rights, "".join(name)


def make_own() -> None:
    """Copy the pages that this process may write to, and make tables for pages that it reads.

    Only the parts of files that are in memory are mapped; nothing is read from a disk. Nothing is
    done before Linux 5.14, or if the kernel does not show which pages are in memory.
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
    """Return the ranges of file pages in memory; nothing if the kernel does not show them."""
    with suppress(OSError), _PAGEMAP.open("rb", buffering=0) as pagemap:
        places = [place for place, _, name in _private_mappings() if name.startswith("/")]
        return tuple(run for place in places for run in place.runs(pagemap))
    return ()


def map_pages(places: "Iterable[Range]") -> bool:
    """Map the pages of ``places`` into this process.

    Return False if the kernel maps nothing ahead (before Linux 5.14).
    """
    return all(_advise(place, _READ) for place in places)


def _cached_page(part: Range) -> Range | None:
    """Return the first page of the part that the kernel holds."""
    held = ctypes.create_string_buffer((part.end - part.begin) // mmap.PAGESIZE)
    _libc().mincore(part.begin, part.end - part.begin, held)
    index = held.raw.find(b"\1")
    begin = part.begin + index * mmap.PAGESIZE
    return None if index < 0 else Range(begin, begin + mmap.PAGESIZE)


def gather() -> int:
    """Gather this process's memory in huge pages if the kernel can; return the gathered bytes.

    Allow huge pages to the process before the call.
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
    """Wait until the kernel has freed the page tables of this process's freed memory.

    Until then the process's group is charged for the tables. The kernel frees them after a grace
    period of 8 to 32 ms (as measured).
    """
    number = _MEMBARRIER.get(platform.machine())
    if number is not None:
        _libc().syscall(number, _GLOBAL, 0, 0)


def written_bytes() -> int | None:
    """Return the bytes of pages that only this process has and wrote to; None if unknown."""
    with suppress(OSError, KeyError):
        return page_sums()["Private_Dirty"]
    return None

"""Sets the policy of the C allocator, and refuses a library that replaces the allocator.

glibc's defaults adapt. Freed blocks stay in the heap and the mmap threshold grows, so the resident
size says little about the live blocks. Under the pinned policy every block of 64 KiB and more is a
mapping of its own, which returns to the kernel when the block is freed.

An allocator that is loaded before the C library (``LD_PRELOAD``: jemalloc, tcmalloc, a memory
profiler) replaces malloc, so that the policy has no effect.

Source: mallopt(3); prctl(2), PR_SET_THP_DISABLE; ld.so(8), LD_PRELOAD; proc_pid_maps(5).
"""

import ctypes
import functools
import os
from pathlib import Path

from harness.schema.errors import HarnessError

MMAP_THRESHOLD_BYTES = 64 * 1024

ENVIRONMENT = {
    "pinned": {
        "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD_BYTES),
        "MALLOC_TRIM_THRESHOLD_": "0",
        "MALLOC_ARENA_MAX": "1",
    },
    "system": {},
}
"""Variables that a process must start with, by policy. Setting the policy only in a child would be
too late, because the child reuses the holes in the heap that it inherits."""

_LARGEST_HOLE_BYTES = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PR_SET_THP_DISABLE = 41


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2`` has ten sizes; the fourth, ``hblks``, is the number of mappings."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


@functools.cache
def glibc() -> ctypes.CDLL | None:
    """Return the C library with its allocator's functions declared; None if it is not glibc."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.mallinfo2.restype = _MallocInfo
    return libc


def apply_policy(policy: str) -> None:
    """Pin this process's malloc if ``policy`` says so and malloc is glibc's.

    Holes of another malloc could not be filled, because glibc's counts would never change.
    """
    libc = glibc()
    if policy == "pinned" and libc is not None and replacement() is None:
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 0)
        libc.malloc_trim(0)  # what fills a hole leaves its pages untouched
        fill_holes(libc, MMAP_THRESHOLD_BYTES)


def fill_holes(libc: ctypes.CDLL, least_bytes: int) -> None:
    """Fill every hole and the free end of the heap that a block of ``least_bytes`` could use.

    malloc looks for a hole before it makes a mapping. In a process that has loaded PyTorch, or
    inherits such a heap, large blocks would lie in holes and stay resident when they are freed.
    """
    size = _LARGEST_HOLE_BYTES
    while size >= least_bytes:
        mapped = libc.mallinfo2().sizes[3]
        block = libc.malloc(size)
        if libc.mallinfo2().sizes[3] > mapped or not block:
            libc.free(block)
            size //= 2


def allow_huge_pages(allowed: bool) -> None:
    """Allow or forbid the kernel to round this process's blocks up to 2 MiB pages."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, int(not allowed), 0, 0, 0)


class MallocReplacedError(HarnessError):
    """An allocator other than the C library's is loaded; the message names it."""


_ALLOCATING = ("malloc", "calloc", "realloc", "free")
"""A replacement defines all of these functions, because one frees the blocks of another."""


@functools.cache
def replacement() -> str | None:
    """Return the file name of the library that replaces malloc; None without one."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return None
    own, *others = (_file_of(libc, name) for name in ("gnu_get_libc_version", *_ALLOCATING))
    # In an executable at a fixed address (Debian's Python) that takes the address of a library's
    # function, this address is that of a stub in the executable, for every library that asks.
    stubs = {own, os.path.realpath("/proc/self/exe"), ""}
    return next((Path(file).name for file in sorted(others) if file not in stubs), None)


def _file_of(libc: ctypes.CDLL, name: str) -> str:
    """Return the file that contains a function, by the process's mappings."""
    address = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        addresses, _, _, _, _, *file = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in addresses.split("-"))
        if begin <= address < end:
            return "".join(file)
    return ""


def refuse_replacement() -> None:
    """Raise MallocReplacedError if the process's malloc is not the C library's."""
    library = replacement()
    if library is not None:
        rule = "it takes memory in its own way; run the command without it (LD_PRELOAD)"
        raise MallocReplacedError(f"no budget can be enforced under {library}: {rule}")

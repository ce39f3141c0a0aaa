"""Sets the policy of the C allocator, and refuses a library that replaces the allocator.

By default, glibc keeps freed blocks in the heap and raises its mmap threshold, so the RSS can be
far above the size of the live blocks. With the policy ``pinned``, each block of at least 64 KiB has
its own mapping, which is returned to the kernel when the block is freed.

The policy has no effect if ``LD_PRELOAD`` loads a library that replaces malloc (e.g. jemalloc).

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
"""Environment variables of a new process, by malloc policy. A forked child does not read these
variables, but calls ``apply_policy``."""

_LARGEST_HOLE_BYTES = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PR_SET_THP_DISABLE = 41


class _MallocInfo(ctypes.Structure):
    """The C structure ``mallinfo2``, whose fourth field is the number of mappings."""

    _fields_ = [("sizes", ctypes.c_size_t * 10)]


@functools.cache
def glibc() -> ctypes.CDLL | None:
    """Return the C library with declared malloc functions, or None if the library is not glibc."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    libc.mallinfo2.restype = _MallocInfo
    return libc


def apply_policy(policy: str) -> None:
    """Apply the policy ``pinned`` to this process, if the process uses glibc's malloc.

    The holes of another malloc cannot be filled, because ``fill_holes`` reads glibc's counters.
    """
    libc = glibc()
    if policy == "pinned" and libc is not None and replacement() is None:
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 0)
        libc.malloc_trim(0)  # what fills a hole leaves its pages untouched
        fill_holes(libc, MMAP_THRESHOLD_BYTES)


def fill_holes(libc: ctypes.CDLL, least_bytes: int) -> None:
    """Fill the free parts of the heap into which a block of ``least_bytes`` fits.

    If the heap has a large enough hole, malloc uses this hole and creates no mapping. The heap has
    many holes after PyTorch is loaded, and a block in a hole stays resident after it is freed.
    """
    size = _LARGEST_HOLE_BYTES
    while size >= least_bytes:
        mapped = libc.mallinfo2().sizes[3]
        block = libc.malloc(size)
        if libc.mallinfo2().sizes[3] > mapped or not block:
            libc.free(block)
            size //= 2


def allow_huge_pages(allowed: bool) -> None:
    """Allow or forbid transparent huge pages (2 MiB) in this process."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, int(not allowed), 0, 0, 0)


class MallocReplacedError(HarnessError):
    """A library replaces the C library's malloc; the message names the library."""


_ALLOCATING = ("malloc", "calloc", "realloc", "free")
"""Functions that each replacement of malloc defines."""


@functools.cache
def replacement() -> str | None:
    """Return the file name of the library that replaces malloc, or None."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return None
    own, *others = (_file_of(libc, name) for name in ("gnu_get_libc_version", *_ALLOCATING))
    # In an executable at a fixed address (Debian's Python) that takes the address of a library's
    # function, this address is that of a stub in the executable, for every library that asks.
    stubs = {own, os.path.realpath("/proc/self/exe"), ""}
    return next((Path(file).name for file in sorted(others) if file not in stubs), None)


def _file_of(libc: ctypes.CDLL, name: str) -> str:
    """Return the path of the file that contains the C function ``name``."""
    address = ctypes.cast(getattr(libc, name), ctypes.c_void_p).value or 0
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        addresses, _, _, _, _, *file = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in addresses.split("-"))
        if begin <= address < end:
            return "".join(file)
    return ""


def refuse_replacement() -> None:
    """Raise MallocReplacedError if a library replaces the C library's malloc."""
    library = replacement()
    if library is not None:
        rule = "it takes memory in its own way; run the command without it (LD_PRELOAD)"
        raise MallocReplacedError(f"no budget can be enforced under {library}: {rule}")

"""The C allocator's policy, and other process state that changes the resident size.

glibc's defaults adapt: freed blocks stay in the heap and the mmap threshold grows, so the
resident size says little about what is alive. Pinned, every block of 64 KiB and more is a
mapping of its own that goes back to the kernel when it is freed.

Source: mallopt(3); prctl(2), PR_SET_THP_DISABLE.
"""

import ctypes
import sys

MMAP_THRESHOLD_BYTES = 64 * 1024

ENVIRONMENT = {
    "pinned": {
        "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD_BYTES),
        "MALLOC_TRIM_THRESHOLD_": "0",
        "MALLOC_ARENA_MAX": "1",
    },
    "system": {},
}
"""Variables that a process must start with, by policy: a child reuses the holes in the heap
that it inherits, so setting the policy in the child alone comes too late."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_PR_SET_THP_DISABLE = 41


def apply_policy(policy: str) -> None:
    """Pin this process's policy where asked; without glibc there is nothing to pin."""
    if policy != "pinned" or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 0)


def disable_huge_pages() -> None:
    """Keep the kernel from rounding this process's blocks up to 2 MiB pages."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)

"""Which library gives this process its memory, and a refusal where it is not the C library.

An allocator that is loaded before the C library (``LD_PRELOAD``: jemalloc, tcmalloc, a memory
profiler) replaces malloc, and with it everything that the malloc policy pins.

Source: dladdr(3); ld.so(8), LD_PRELOAD.
"""

import ctypes
import functools
import sys
from pathlib import PurePath

from harness.schema.errors import HarnessError


class MallocReplacedError(HarnessError):
    """Another allocator than the C library's; the message names it."""


class _Symbol(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


@functools.cache
def replacement() -> str | None:
    """Return the file name of the library that replaces malloc; None where nothing does."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "dladdr"):
        return None
    ours, own = _file_of(libc, "malloc"), _file_of(libc, "getenv")
    return PurePath(ours).name if ours and ours != own else None


def _file_of(libc: ctypes.CDLL, name: str) -> str | None:
    found = _Symbol()
    address = ctypes.cast(getattr(libc, name), ctypes.c_void_p)
    if not libc.dladdr(address, ctypes.byref(found)) or found.file is None:
        return None
    return str(found.file.decode(errors="replace"))


def refuse_replacement() -> None:
    """Refuse to enforce a budget under another malloc than the one that is modelled.

    Raises:
        MallocReplacedError: malloc is replaced.

    """
    library = replacement()
    if library is not None:
        rule = "it takes memory in its own way; run the command without it (LD_PRELOAD)"
        raise MallocReplacedError(f"no budget can be enforced under {library}: {rule}")

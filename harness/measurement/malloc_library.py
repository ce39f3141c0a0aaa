"""Which library gives this process its memory, and a refusal where it is not the C library.

An allocator that is loaded before the C library (``LD_PRELOAD``: jemalloc, tcmalloc, a memory
profiler) replaces malloc, and with it everything that the malloc policy pins.

Source: dladdr(3); ld.so(8), LD_PRELOAD; elf(5).
"""

import ctypes
import functools
import sys
from pathlib import PurePath

from harness.schema.errors import HarnessError


class MallocReplacedError(HarnessError):
    """Another allocator than the C library's; the message names it."""


class _Place(ctypes.Structure):
    """``Dl_info``."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


class _Symbol(ctypes.Structure):
    """``Elf64_Sym``."""

    _fields_ = [
        ("name", ctypes.c_uint32),
        ("info", ctypes.c_uint8),
        ("other", ctypes.c_uint8),
        ("section", ctypes.c_uint16),
        ("value", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
    ]


_UNDEFINED = 0
"""The section of a symbol that a file uses and another one defines."""
_WITH_SYMBOL = 1
"""``RTLD_DL_SYMENT``."""
_ALLOCATING = ("malloc", "calloc", "realloc", "free")
"""A replacement defines all of them: what one allocates another frees."""


@functools.cache
def replacement() -> str | None:
    """Return the file name of the library that replaces malloc; None where nothing does."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "dladdr1"):
        return None
    own = _definer(libc, "gnu_get_libc_version")
    others = {_definer(libc, name) for name in _ALLOCATING} - {own, None}
    return PurePath(sorted(map(str, others))[0]).name if others else None


def _definer(libc: ctypes.CDLL, name: str) -> str | None:
    """Return the file that defines the function; None where its address does not say.

    In an executable at a fixed address (Debian's Python) that takes the address of a library's
    function, this address is that of a stub in the executable, for every library that asks.
    """
    place, symbol = _Place(), ctypes.POINTER(_Symbol)()
    address = ctypes.cast(getattr(libc, name), ctypes.c_void_p)
    found = libc.dladdr1(address, ctypes.byref(place), ctypes.byref(symbol), _WITH_SYMBOL)
    if not found or place.file is None or not symbol or symbol.contents.section == _UNDEFINED:
        return None
    return str(place.file.decode(errors="replace"))


def refuse_replacement() -> None:
    """Refuse to enforce a budget under another malloc than the one that is modelled."""
    library = replacement()
    if library is not None:
        rule = "it takes memory in its own way; run the command without it (LD_PRELOAD)"
        raise MallocReplacedError(f"no budget can be enforced under {library}: {rule}")

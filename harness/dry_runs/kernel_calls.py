"""Linux system calls that Python lacks, for mounts, namespaces, capabilities and Landlock."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_C = ctypes.CDLL(None, use_errno=True)

NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000
BIND, RECURSIVE, PRIVATE, REMOUNT = 0x1000, 0x4000, 1 << 18, 32
KEPT_FLAGS = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "relatime": 1 << 21}
"""Mount flags by name in ``mountinfo``; user namespaces cannot remount without these flags."""
_DETACH = 2
_PIVOT_ROOT, _CAPABILITIES = {"x86_64": (155, 126), "aarch64": (41, 91)}.get(
    os.uname().machine, (-1, -1)
)
_CREATE_RULES, _ADD_RULE, _RESTRICT = 444, 445, 446  # of every architecture
_SET_DUMPABLE, _NO_NEW_PRIVILEGES = 4, 38
_CAPABILITIES_VERSION = 0x20080522

# What Landlock refuses: to write to a file, remove a folder or a file, and make a device, folder,
# file, socket, FIFO or link (1); to move a file to another folder (2); to truncate one (3).
_WRITES = {1: 1 << 1 | 0b111111111 << 4, 2: 1 << 13, 3: 1 << 14}
_WRITES_OF_A_FILE = 1 << 1 | 1 << 14


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move this process into new namespaces (unshare(2))."""
    _checked(_C.unshare(flags), "unshare")


def mount(
    source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str = ""
) -> None:
    """Mount a file system (mount(2))."""
    words = (None if word is None else os.fsencode(word) for word in (source, target, kind))
    _checked(_C.mount(*words, ctypes.c_ulong(flags), data.encode() or None), f"mount {target}")


def enter_root(folder: str) -> None:
    """Make a mount point the new root folder, and detach the old root (pivot_root(2))."""
    os.chdir(folder)
    _checked(_C.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _checked(_C.umount2(b".", _DETACH), "umount")
    os.chdir("/")


def drop_capabilities() -> None:
    """Drop this process's capabilities; its parent process can still read ``/proc/PID``."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    _checked(_C.syscall(_CAPABILITIES, header, (ctypes.c_uint32 * 6)()), "capset")
    _checked(_C.prctl(_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def allow_writes_only(paths: Sequence[Path]) -> None:
    """Make the kernel refuse all writes outside ``paths``, in this process and in its children.

    Raises:
        OSError: the kernel does not support Landlock.
    """
    version = _checked(_C.syscall(_CREATE_RULES, None, ctypes.c_size_t(0), 1), "Landlock")
    handled = sum(bits for since, bits in _WRITES.items() if since <= version)
    attributes = ctypes.c_uint64(handled)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    rules = _checked(_C.syscall(_CREATE_RULES, ctypes.byref(attributes), size, 0), "Landlock")
    for path in paths:
        below = os.open(path, os.O_PATH)
        allowed = handled if path.is_dir() else handled & _WRITES_OF_A_FILE
        rule = allowed.to_bytes(8, "little") + below.to_bytes(4, "little")
        _checked(_C.syscall(_ADD_RULE, rules, 1, rule, 0), f"Landlock: {path}")
        os.close(below)
    _checked(_C.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    _checked(_C.syscall(_RESTRICT, rules, 0), "Landlock")
    os.close(rules)

"""Parts of a process's resident memory: what was there before PyTorch, and PyTorch's libraries.

A forked worker shares its pages with the fork server. They are resident in both, and RSS counts
them in each, as it counts them in a process that has loaded PyTorch itself. Pages of files are the
exception: a fork gets its entries for them one by one, when it reads them. ``of_worker`` maps those
that the fork server had in memory, so that the worker's RSS is that of a process on its own.

Source: proc_pid_smaps(5).
"""

import os
from pathlib import Path
from typing import NamedTuple

from harness.measurement.limits.own_pages import map_files_as

_SMAPS = Path("/proc/self/smaps")


class _Resident(NamedTuple):
    total_bytes: int
    of_files_bytes: int


_before_torch: list[_Resident] = []
"""Of a fork server, noted before it loads PyTorch; its forks inherit it."""


def note_before_torch() -> None:
    """Note what is resident before PyTorch: the interpreter and this package."""
    if _SMAPS.exists():
        _before_torch.append(_resident())


def of_worker() -> dict[str, int] | None:
    """Return the parts that do not depend on the step; None in a process that no server forked."""
    if not _before_torch or not map_files_as(os.getppid()):
        return None
    before = _before_torch[0]
    libraries = _resident().of_files_bytes - before.of_files_bytes
    return {"interpreter_bytes": before.total_bytes, "libraries_bytes": libraries}


def _resident() -> _Resident:
    """Return the resident size of all mappings, and of those of files."""
    total = of_files = 0
    in_file = False
    for line in _SMAPS.read_text(errors="replace").splitlines():
        name, *rest = line.split(maxsplit=5)
        if not name.endswith(":"):
            in_file = len(rest) == 5 and rest[4].startswith("/")
        elif name == "Rss:":
            size = int(rest[0]) << 10
            total += size
            of_files += size if in_file else 0
    return _Resident(total, of_files)

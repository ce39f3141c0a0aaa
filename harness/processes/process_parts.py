"""Measures two parts of a worker's RSS: the interpreter, and PyTorch's libraries.

A forked worker shares its pages with the fork server. The RSS of the server and of the worker
contains the shared pages, as if the worker had loaded PyTorch. A page of a file, however, is part
of the worker's RSS only after the worker has read the page. ``of_worker`` maps all file pages that
the fork server had in memory, so that the worker has the same RSS as a process that was not forked.

Source: proc_pid_smaps(5).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.instruments.rss import status_bytes
from harness.processes.limits.own_pages import Range, map_pages, pages_of_files

_SMAPS = Path("/proc/self/smaps")


class _Resident(NamedTuple):
    total_bytes: int
    of_files_bytes: int


@dataclass
class _Server:
    """Memory sizes that a fork server records, and that its forks inherit."""

    before: _Resident | None = None
    """Resident memory of the server before PyTorch was loaded."""
    libraries_bytes: int = 0
    file_pages_bytes: int = 0
    pages: tuple[Range, ...] = ()


_server = _Server()


def note_before_torch() -> None:
    """Record the resident memory of the interpreter and this package, before PyTorch is loaded."""
    if _SMAPS.exists():
        _server.before = _resident()


def note_with_torch() -> None:
    """Record the pages of PyTorch's libraries once, so that forks need not find these pages."""
    if _server.before is not None:
        _server.libraries_bytes = _resident().of_files_bytes - _server.before.of_files_bytes
        _server.file_pages_bytes = status_bytes("RssFile")
        _server.pages = pages_of_files()


def of_worker() -> dict[str, int] | None:
    """Return the bytes of the interpreter and PyTorch's libraries; None without a fork server."""
    if _server.before is None or not _server.pages or not map_pages(_server.pages):
        return None
    more = status_bytes("RssFile") - _server.file_pages_bytes
    return {
        "interpreter_bytes": _server.before.total_bytes,
        "libraries_bytes": _server.libraries_bytes + more,
    }


def _resident() -> _Resident:
    """Return the resident bytes of all mappings, and of file mappings only."""
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

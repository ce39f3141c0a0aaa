"""Checks files that somebody else may have made, before they are read."""

import os
import stat
from pathlib import Path

from harness.schema.errors import HarnessError
from harness.schema.units import format_bytes

LONGEST_BYTES = 2 << 30
"""Largest file of a run that is read; a record has about 10 kB."""
_OF_A_RUN = frozenset({".jsonl", ".json", ".csv", ".sha256", ".md", ".html", ".svg", ".png", ".py"})


class NoPlainFileError(HarnessError, ValueError):
    """Raised for a path that is not an ordinary file, or a file that is too large to read."""


def check_plain(path: Path) -> None:
    """Raise an error unless ``path`` is an ordinary file of a size that can be read.

    To open a named pipe would wait for ever, and a device may have no end.

    Raises:
        NoPlainFileError: the path is something else, such as a pipe, a device or a loop of links.
    """
    try:
        facts = os.stat(path)  # noqa: PTH116 a link to an ordinary file is one
    except OSError as error:
        raise NoPlainFileError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise NoPlainFileError(f"{path}: not an ordinary file, but a {_kind(facts.st_mode)}")
    if facts.st_size > LONGEST_BYTES:
        most, size = format_bytes(LONGEST_BYTES), format_bytes(facts.st_size)
        raise NoPlainFileError(f"{path}: a file of a run has at most {most}, this one has {size}")


def check_run(folder: Path) -> None:
    """Raise an error unless all files of a run, by their endings, are ordinary files.

    Raises:
        NoPlainFileError: see ``check_plain``.
    """
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            if path.suffix in _OF_A_RUN:
                check_plain(path)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
    return kinds.get(stat.S_IFMT(mode), "device")

"""Checks the size of a run's file layers, so that the script does not fill the disk."""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from harness.schema.units import format_bytes

MOST_BYTES = 128 << 30
"""Size limit of each folder of layers, in bytes; half of the disk's free space if that is less."""
TOO_LARGE = "too-large"
"""File in the run's folder; it contains the reason why the harness ended the run."""

_ROOM, _ROOM_BYTES = "room", 8 << 20
"""File that reserves disk space for the results, and the size of this file in bytes."""
_EVERY_SECONDS = 0.5
_SHARE = 20
"""Size checks use at most 1/20 of the run time."""


class LayerSize:
    """Checks the size of layer folders; the folders must be empty when this object is created."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._free = {folder: _free(folder) for folder in folders}
        self._due = 0.0

    def excess(self, *, at_once: bool = False) -> str | None:
        """Return an error message if the script wrote too much, else None.

        The file sizes are added up only if the disk's free space fell by over half of the limit.
        """
        if (begin := time.monotonic()) < self._due and not at_once:
            return None
        for folder, before in self._free.items():
            limit = min(MOST_BYTES, before // 2)
            if before - _free(folder) > limit // 2 and (size := _size(folder)) > limit:
                return (
                    f"the script wrote {format_bytes(size)}, more than the {format_bytes(limit)}"
                    f" that a dry run keeps on the disk of {folder.parent.parent}: set TMPDIR to a"
                    " folder on a larger disk, or give --write-files"
                )
        now = time.monotonic()
        self._due = now + max(_EVERY_SECONDS, _SHARE * (now - begin))
        return None


def keep_room(folder: Path) -> None:
    """Reserve disk space for the results of a run."""
    with (folder / _ROOM).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES)


def give_room(folder: Path) -> None:
    """Free the reserved disk space, so that results can be written."""
    with contextlib.suppress(OSError):
        (folder / _ROOM).unlink()


def _free(folder: Path) -> int:
    facts = os.statvfs(folder.parent)
    return facts.f_bavail * facts.f_frsize


def _size(folder: Path) -> int:
    """Return the disk space of all files below a folder, without the holes of sparse files."""
    size = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                size += Path(place, name).lstat().st_blocks * 512
    return size

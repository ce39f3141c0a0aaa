"""Explains refused writes, and copies files that cannot be moved between file layers."""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.dry_runs.file_layer import WAYS_OUT, Mode
from harness.prediction.after_import import instead

_WRITES = {"os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.truncate": 0, "os.rename": 1}
_WRITES |= {"os.link": 1, "os.symlink": 1}
"""Index of the written path in each audit event (docs.python.org, "Audit events table")."""
OTHERS_FILE = (
    "the kernel takes no file of another owner or group into a plain user's layer: run as that"
    " group (sg GROUP), or give --write-files"
)
_REFUSALS = {errno.EACCES, errno.EPERM, errno.EXDEV}


def tell_writes(tell: Callable[[str], None], allowed: tuple[Path, ...]) -> None:
    """At the first write that the kernel will refuse, tell the user how to allow writes."""
    told: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if told or not (path := _written(event, arguments)):
            return
        real = os.path.realpath(os.fsdecode(path))
        if not any(Path(real).is_relative_to(one) for one in allowed):
            told.append(real)
            tell(f"{real} cannot be written, because the kernel refuses a layer: {WAYS_OUT}")

    sys.addaudithook(hook)


def _written(event: str, arguments: tuple[Any, ...]) -> str | bytes | None:
    """Return the path that an audit event will write to; None if it writes nothing."""
    flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
    index = 0 if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else _WRITES.get(event)
    path = None if index is None else arguments[index]
    return path if isinstance(path, str | bytes) else None


def why_refused(error: BaseException | None, mode: Mode) -> str | None:
    """Return why a write was refused; None if ``error`` is not about a refused write."""
    number = error.errno if isinstance(error, OSError) else None
    if mode == "layer":
        return OTHERS_FILE if number == errno.EOVERFLOW else None
    if mode == "written" or error is None:
        return None
    if number in _REFUSALS or (number is None and os.strerror(errno.EACCES) in str(error)):
        return f"the kernel refuses a layer of files: {WAYS_OUT}"
    return None


def move_between_layers(devices: Mapping[str, int]) -> None:
    """Make ``os.rename`` copy and delete files if a move fails only because of file layers.

    The kernel does not move files between two layers. If the user is not root, the kernel also does
    not move a folder that existed before the run.

    Args:
        devices: device number (``st_dev``) of each top-level folder before layers were added.
    """

    def on(path: Any) -> int | None:
        return devices.get("/".join(os.path.realpath(os.fsdecode(path)).split("/")[:2]))

    for name in ("rename", "replace"):

        @instead(os, name)
        def move(real: Callable[..., None], source: Any, target: Any, **named: Any) -> None:
            try:
                real(source, target, **named)
            except OSError as error:
                if error.errno != errno.EXDEV or named or on(source) != on(target):
                    raise
                _copy_and_remove(real, Path(os.fsdecode(source)), Path(os.fsdecode(target)))


def _copy_and_remove(real: Callable[..., None], source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        if target.is_dir():
            target.rmdir()  # as rename(2) takes the place of an empty one
        shutil.copytree(source, target, symlinks=True)
        shutil.rmtree(source)
    else:
        part = target.with_name(f"{target.name}.moved")
        shutil.copy2(source, part, follow_symlinks=False)
        real(part, target)
        source.unlink()

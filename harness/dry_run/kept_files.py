"""Files of the user that a script would have replaced, and checkpoints that hold zeros.

The stub (``stub/files.c``) keeps what was there before the script; this module tells it which new
files come from the GPU: what ``torch.save`` and safetensors write once the script uses the GPU.
"""

import contextlib
import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.dry_run.dry_run_report import KeptFile

_WHAT = {
    "N": "new",
    "E": "existing",
    "D": "deleted",
    "R": "not renamed",
    "A": "changed in place",
}
"""The letters of the list of ``stub/files.c``."""

WRITERS = {
    "torch": ("save", 1),
    "torch.serialization": ("save", 1),
    "safetensors": ("serialize_file", 1),
    "safetensors.torch": ("save_file", 1),
    "lightning.fabric.utilities.cloud_io": ("_atomic_save", 1),
    "lightning_fabric.utilities.cloud_io": ("_atomic_save", 1),
}
"""Functions that write tensors, by module, and the position of the file among their arguments."""


def keep_written(module: ModuleType, file_argument: str = "f") -> None:
    """Have a module's function say what file it writes, before it does."""
    name, position = WRITERS[module.__name__]
    real: Callable[..., Any] | None = getattr(module, name, None)
    if real is None or hasattr(real, "__wrapped__"):
        return

    @functools.wraps(real)
    def write(*arguments: Any, **named: Any) -> Any:
        file = arguments[position] if len(arguments) > position else None
        for keyword in (file_argument, "filename", "filepath"):
            file = named.get(keyword, file)
        _keep(file)
        return real(*arguments, **named)

    setattr(module, name, write)


def _keep(file: object) -> None:
    import torch

    if not torch.cuda.is_initialized():
        return
    stub = ctypes.CDLL(None)
    if isinstance(file, (str, os.PathLike)):
        stub.pretend_keep(os.fsencode(file))
        return
    with contextlib.suppress(Exception):  # it is no file of the system
        stub.pretend_keep_open(file.fileno())  # type: ignore[attr-defined]


def kept_files(folder: Path) -> tuple[KeptFile, ...]:
    """Return what the stub noted in its folder, each file once."""
    try:
        lines = (folder / "list").read_bytes().split(b"\0")
    except OSError:
        return ()
    found: dict[str, KeptFile] = {}
    for line in filter(None, lines):
        path = line[1:].decode(errors="backslashreplace")
        found.setdefault(path, KeptFile(path=path, what=_WHAT[chr(line[0])]))  # type: ignore[arg-type]
    return tuple(found.values())

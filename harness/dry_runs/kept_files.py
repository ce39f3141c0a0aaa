"""Files of the user that a script would have replaced, and checkpoints that hold zeros.

The stub (``stub/files/file_names.c``) keeps what was there before the script; this module tells it
which new files may come from the GPU: what ``torch.save`` and safetensors write after that.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.dry_runs.after_import import instead
from harness.dry_runs.dry_run_report import KeptFile

_WHAT = {
    "N": "new",
    "E": "existing",
    "D": "deleted",
    "R": "not renamed",
    "U": "not changed",
    "A": "changed in place",
}
"""The letters of the list of ``stub/files/file_names.c``."""

WRITERS = {
    "torch": "save",
    "torch.serialization": "save",
    "safetensors": "serialize_file",
    "lightning.fabric.utilities.cloud_io": "_atomic_save",
    "lightning_fabric.utilities.cloud_io": "_atomic_save",
}
"""Functions that write tensors, by module; the file is the second argument of each."""

_KEYWORDS = ("f", "filename", "filepath")
_LONGEST_PATH = 4096


def keep_written(module: ModuleType) -> None:
    """Have a module's function write to the dry run's folder, once the script uses the GPU."""
    name = WRITERS[module.__name__]
    if not hasattr(module, name) or hasattr(getattr(module, name), "__wrapped__"):
        return

    @instead(module, name)
    def write(real: Callable[..., Any], what: Any, *arguments: Any, **named: Any) -> Any:
        if arguments:
            arguments = (_kept(arguments[0]), *arguments[1:])
        for keyword in _KEYWORDS:
            if keyword in named:
                named[keyword] = _kept(named[keyword])
        return real(what, *arguments, **named)


def _kept(file: Any) -> Any:
    """Return where a file is written."""
    torch = sys.modules.get("torch")
    is_path = isinstance(file, (str, os.PathLike))
    if not (torch and torch.cuda.is_initialized()) and not (is_path and Path(file).exists()):
        return file
    stub = ctypes.CDLL(None)
    if is_path:
        chosen = ctypes.create_string_buffer(_LONGEST_PATH)
        return os.fsdecode(chosen.value) if stub.pretend_keep(os.fsencode(file), chosen) else file
    with contextlib.suppress(Exception):  # it is no file of the system
        stub.pretend_keep_open(file.fileno())
    return file


def kept_files(folder: Path) -> tuple[KeptFile, ...]:
    """Return what the stub noted in its folder, each file once."""
    try:
        lines = (folder / "list").read_bytes().split(b"\0")
    except OSError:
        return ()
    files: dict[str, KeptFile] = {}
    for line in filter(None, lines):
        path = line[1:].decode(errors="backslashreplace")
        files.setdefault(path, KeptFile(path=path, what=_WHAT[chr(line[0])]))  # type: ignore[arg-type]
    return tuple(files.values())

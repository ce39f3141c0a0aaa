"""Finds the line of the user's code in the traceback of an error."""

import os
import re
import traceback
from pathlib import Path

from harness.schema.library_files import is_library
from harness.version import PACKAGE

_HARNESS = f"{PACKAGE.resolve()}{os.sep}"
_PACKAGES = re.compile(r"(?:site|dist)-packages.(?!torch\W)")
"""Pattern of paths of installed packages other than PyTorch."""


def users_place(error: BaseException) -> str | None:
    """Return file, line and function of the innermost frame in user code; if none, in a library."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    shown = [f for f in frames if not f.filename.startswith(("<", _HARNESS))]
    own = [f for f in shown if not is_library(f.filename)]
    for frame in reversed(own or [f for f in shown if _PACKAGES.search(f.filename)]):
        name = "" if frame.name == "<module>" else f" in {frame.name}"
        return f"{_short(frame.filename)}:{frame.lineno}{name}"
    return None


def _short(file: str) -> str:
    """Return a path relative to the current folder; for a file elsewhere, its last two parts."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(Path(*path.parts[-2:]))

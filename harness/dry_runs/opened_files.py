"""Detects whether a script resumes, i.e. reads files of an earlier run."""

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from harness.prediction.after_import import after_import, instead

_CACHED = "/__pycache__/", "/.cache/"
"""Path parts of cache files; a script that reads a cache file does not resume."""


def may_be_resumed_from(file: str) -> bool:
    """Return whether a file that a run wrote may be a checkpoint.

    >>> may_be_resumed_from("/data/last.pt"), may_be_resumed_from("/data/__pycache__/net.pyc")
    (True, False)
    """
    return not any(part in file for part in _CACHED)


def note_reads(files: Collection[str], sign: Path) -> None:
    """From now on, record which of the given files Python or safetensors opens for reading.

    Args:
        files: paths of the files, without symbolic links.
        sign: file to which the paths of the opened files are written, one in each line.
    """
    if not files:
        return
    names = {os.path.basename(file) for file in files}  # noqa: PTH119 for each opened file
    found = set[str]()

    def look(path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            text = os.fsdecode(path)
            if os.path.basename(text) in names:  # noqa: PTH119
                real = os.path.realpath(text)
                if real in files and real not in found:
                    found.add(real)
                    with sign.open("a") as listed:
                        listed.write(f"{real}\n")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[2] & os.O_ACCMODE == os.O_RDONLY:
            look(arguments[0])

    def watch(module: Any) -> None:
        @instead(module, "safe_open")
        def safe_open(real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            look(next(iter(arguments), named.get("filename")))
            return real(*arguments, **named)

    sys.addaudithook(hook)
    after_import("safetensors", watch)

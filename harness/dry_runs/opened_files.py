"""Sign that a script opens a file of an earlier run: then it is resumed."""

import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from harness.prediction.after_import import after_import, instead


def tell_opened(files: Collection[str], sign: Path) -> None:
    """Make a file as soon as Python or safetensors opens one of some files to read it.

    Args:
        files: their real paths.
        sign: the file to make.
    """
    if not files:
        return
    names = {os.path.basename(file) for file in files}  # noqa: PTH119 for each opened file

    def look(path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            text = os.fsdecode(path)
            if os.path.basename(text) in names and os.path.realpath(text) in files:  # noqa: PTH119
                sign.touch()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_TRUNC):
            look(arguments[0])

    def watch(module: Any) -> None:
        @instead(module, "safe_open")
        def safe_open(real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            look(next(iter(arguments), named.get("filename")))
            return real(*arguments, **named)

    sys.addaudithook(hook)
    after_import("safetensors", watch)

"""Finds the class names of modules for recorded frames, which contain only files and lines."""

import ast
from functools import lru_cache
from pathlib import Path

from harness.schema.library_files import is_library

_LARGEST_BYTES = 4 << 20


def module_name(path: str, line: int) -> str | None:
    """Return the name of the module whose ``forward`` has this frame; None for an unknown module.

    The class name is read from the source file, if it exists; no code is executed. In the user's
    own files, the name includes the line number, which shows which child ran.
    """
    name = _class_at(path, line)
    if is_library(path):
        return name
    return f"{path.rsplit('/', 1)[-1] if name is None else name}:{line}"


def _class_at(path: str, line: int) -> str | None:
    inside = [(first, name) for first, last, name in _classes(path) if first <= line <= last]
    return max(inside)[1] if inside else None


@lru_cache(maxsize=256)
def _classes(path: str) -> tuple[tuple[int, int, str], ...]:
    try:
        source = Path(path)
        if not (source.is_file() and source.stat().st_size < _LARGEST_BYTES):
            return ()
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return tuple((node.lineno, node.end_lineno or node.lineno, node.name) for node in found)

"""Computes a hash of the code that measures, so that a record identifies this code.

The hash ignores comments, docstrings and blank lines, and is the same in all versions of Python.
"""

import ast
import functools
import hashlib
import re
from pathlib import Path

from harness.version import PACKAGE

MEASURING = ("training", "instruments", "processes", "measurement", "thresholds")
"""Packages whose code builds, runs, observes and limits a step."""
PRETENDING = ("dry_runs",)
"""Packages that influence the results only on a pretended GPU."""

_C_COMMENT = re.compile(rb"/\*.*?\*/|//[^\n]*", re.DOTALL)


@functools.cache
def measuring_code(*, pretended: bool) -> str:
    """Return the hash of the measuring code, as 12 hexadecimal digits.

    Args:
        pretended: True to include the code of dry runs.

    >>> len(measuring_code(pretended=False))
    12
    """
    digest = hashlib.sha256()
    for package in (*MEASURING, *(PRETENDING if pretended else ())):
        for path in sorted((PACKAGE / package).rglob("*")):
            if path.suffix in (".py", ".c", ".cpp", ".h"):
                digest.update(path.relative_to(PACKAGE).as_posix().encode())
                digest.update(essence(path))
    return digest.hexdigest()[:12]


def essence(path: Path) -> bytes:
    """Return a Python or C file without comments, docstrings and blank lines."""
    text = path.read_bytes()
    if path.suffix != ".py":
        return b"\n".join(_C_COMMENT.sub(b"", text).split())
    described, quoted = _string_lines(text)
    rows = enumerate(text.splitlines(), 1)
    kept = [
        line.rstrip()
        for row, line in rows
        if row in quoted or (row not in described and not line.lstrip().startswith(b"#"))
    ]
    return b"\n".join(filter(None, kept))


def _string_lines(text: bytes) -> tuple[set[int], set[int]]:
    """Return the line numbers of docstrings, and the line numbers of other strings."""
    tree = ast.parse(text)
    described, quoted = set[int](), set[int]()
    for node in ast.walk(tree):
        rows = range(getattr(node, "lineno", 0), (getattr(node, "end_lineno", 0) or 0) + 1)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            described.update(rows)
        elif isinstance(node, ast.Constant | ast.JoinedStr):
            quoted.update(rows)
    return described, quoted - described

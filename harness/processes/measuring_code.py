"""Hashes the code that measures, because a reference run belongs to the code that made it.

Comments, docstrings and blank lines do not count, so the hash of one text is the same in every
version of Python.
"""

import ast
import functools
import hashlib
import re
from pathlib import Path

from harness.version import PACKAGE

MEASURING = ("training", "instruments", "processes", "measurement", "thresholds")
"""Packages whose code builds, runs, watches and limits a step."""
PRETENDING = ("dry_runs",)
"""Packages that also decide the result of a step on a pretended GPU."""

_C_COMMENT = re.compile(rb"/\*.*?\*/|//[^\n]*", re.DOTALL)


@functools.cache
def measuring_code(*, pretended: bool) -> str:
    """Return twelve digits that change with the code that measures.

    Args:
        pretended: whether the code of the dry run counts.

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
    """Return the lines of a file of Python or C that a compiler reads."""
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

#!/usr/bin/env python3
"""Find three habits that cost a reader a second reading, in documentation, docstrings and claims.

usage: prose.py    (from the root of a checkout; prints FILE:LINE and ends with 1 if it finds one)
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HABITS = {
    r"^Of ": "begin with the subject: 'Settings of matplotlib', 'The size of a layer'",
    r"\bthe\s+one\b": "repeat the noun, or write 'the only'",
    r"(?<![Tt]here\s)\b(?:is|are)\s+no\b(?!\s+(?:longer|more)\b)": "write 'is not a'",
}
TOLD = {"help", "caption", "title", "sentence", "question"}
"""Arguments whose strings a person reads."""
ELSEWHERE = re.compile(r"CHANGELOG\.md|results/|tests/.*\.py|docs/_")
"""The past, texts that are made from claims, and names of tests."""


def strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the strings below a node of a program, each with the line that it begins in."""
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.lineno, one.value


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what a person reads in a file: all of it, or a program's docstrings and help."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield 1, text
        return
    for node in ast.walk(ast.parse(text)):
        is_told = isinstance(node, ast.keyword) and node.arg in TOLD
        if isinstance(node, ast.Expr) or is_told:
            yield from strings(node.value) if is_told or _is_text(node.value) else ()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def main() -> int:
    """Print each habit that is found; return the exit code."""
    command = ["git", "ls-files", "*.py", "*.md", "*.toml", "*.j2"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found = [
        f"{name}:{line + text.count(chr(10), 0, match.start())}: {match[0]!r}: {rule}"
        for name in names
        if not ELSEWHERE.match(name) and Path(name).is_file()
        for line, text in texts(Path(name))
        for habit, rule in HABITS.items()
        for match in re.finditer(habit, text, re.MULTILINE)
    ]
    if found:
        print(*found, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())

"""Worker process of ``harness mcp``; it runs one command at a time.

Standard input and output connect the process to the server. The user's code gets an empty standard
input, and its output goes to standard error.
"""

import io
import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any


def main() -> int:
    """Read a command's arguments from each line of input, and write a line with the answer."""
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for line in questions:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
    return 0


def answer(arguments: list[str]) -> dict[str, Any]:
    """Run a command; return its JSON together with its exit code."""
    from harness.cli.app import main as run

    said = io.StringIO()
    with redirect_stdout(said):
        code = run(arguments)
    sys.stdout.flush()
    text = said.getvalue()
    try:
        found = json.loads(text.splitlines()[-1])
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict):
        why = "the command printed no answer; leave out options such as --help"
        found = {"verdict": None, "error": why, "text": text}
    return {**found, "exit_code": code}

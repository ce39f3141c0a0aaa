"""A process that answers questions of ``harness mcp``, one after the other.

Standard input and output belong to the server. Code that a question runs gets an empty input, and
its output goes to standard error.
"""

import io
import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any


def main() -> int:
    """Answer each line of arguments by a line, until the input ends."""
    questions = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for line in questions:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
    return 0


def answer(arguments: list[str]) -> dict[str, Any]:
    """Return the JSON of a command, and its exit code."""
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

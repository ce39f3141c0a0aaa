"""Answers of ``harness dry-run --json`` for the tables of several benchmarks."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def answer_of(words: Sequence[str], folder: Path) -> tuple[dict[str, Any], str]:
    """Run the command in a folder; return its report, and the script's output before it.

    ``fit`` and ``evidence`` are texts.
    """
    command = [sys.executable, "-m", "harness", "dry-run", "--json", *words]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    printed, _, line = done.stdout.rstrip().rpartition("\n")
    answer: dict[str, Any] = json.loads(line)
    for name, text in (("fit", "verdict"), ("evidence", "message")):
        answer[name] = answer[name] and answer[name][text]
    return answer, printed


def without_places(text: str | None, folder: Path) -> str | None:
    """Return a line without the folders of this machine."""
    return text and re.sub(r"[^\s'(]*/site-packages/", "", text.replace(f"{folder}/", ""))

"""Commands that run in the process of a test, and what they say."""

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import pytest

from harness.cli.app import main
from harness.cli.json_answer import JsonAnswer


class Said(NamedTuple):
    """The output of a command on its two streams."""

    out: str
    err: str


class Ask:
    """Runs a command, which must end with the expected exit code."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, line: Sequence[str], code: int = 0) -> Said:
        self._capture.readouterr()
        ended = main([*line])
        out, err = self._capture.readouterr()
        said = Said(out, without_progress(err))
        assert ended == code, said
        return said


def without_progress(err: str) -> str:
    """Return what a command said on standard error, without the lines that a slow machine gets."""
    return re.sub(r"^\[\d+ s\] .*\n", "", err, flags=re.MULTILINE)


def facts_of(line: str) -> dict[str, Any]:
    """Return what a command answers of its own, without the part that all commands have."""
    own: dict[str, Any] = json.loads(line)
    for one in fields(JsonAnswer):
        del own[one.name]
    return own

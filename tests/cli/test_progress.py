"""Progress on a terminal while the answer is not there yet."""

import io
import sys

import pytest

from harness.cli.target_flags import shown_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_what_is_done_and_a_pipe_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with shown_progress("trying") as tell:
            tell("2 x 8,\x1b[2J")
        said = stream.getvalue()
        assert ("PyTorch starts" in said) == ("trying 2 x 8,\\x1b[2J" in said) == stream.isatty()

"""The end of the command: quick, with its code and all of its output."""

import subprocess
import sys
from pathlib import Path

import pytest

MODEL = """
import atexit
import threading
import time
from torch import nn

def late():
    time.sleep(0.2)
    print("a thread ended")

def build():
    atexit.register(print, "the user's own last words")
    threading.Thread(target=late).start()
    return nn.Linear(4, 8_000_000)
"""


@pytest.mark.slow
def test_the_exit_keeps_the_code_and_what_was_to_be_done_at_the_exit(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    question = ["--input", "4", "--gpu", "l4", "--memory", "800MiB", "--check"]
    question += ["--method", "estimate"]  # which is made in this very process
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli.entry", "predict", "model.py:build", *question],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 3, done.stderr
    assert "does not fit" in done.stdout
    assert "a thread ended" in done.stdout
    assert "the user's own last words" in done.stdout
    assert done.stderr == ""


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader = "import sys; sys.stdin.read(1)"
    command = f"{sys.executable} -m harness.cli.entry --help | {sys.executable} -c '{reader}'"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

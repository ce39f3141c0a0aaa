"""The end of the command: its code, all of its output, and one line where nobody can read it."""

import json
import sys
from pathlib import Path

import pytest

from harness.cli import entry
from tests.child_process import run
from tests.commands import without_progress

HARNESS = f"{sys.executable} -m harness"
FULL = "harness: standard output cannot be written: No space left on device\n"
CLOSED = "harness: standard output cannot be written: it is closed\n"
ENDLESS = "harness: cannot read /dev/zero: it is a device, which may have no end\n"
MISTAKE = "harness: --depth must be a whole number, got 'x'\n"


def sh(line: str) -> tuple[int, str, str]:
    done = run("bash", "-c", f"set -o pipefail; {line}")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "streams", "expected"),
    [
        ("predict", "> /dev/full", (2, "", FULL)),
        ("predict --budget 1MiB --check", "> /dev/full", (2, "", FULL)),
        ("--version", "> /dev/full", (2, "", FULL)),
        ("predict", ">&-", (2, "", CLOSED)),
        ("predict --json", ">&- <&-", (2, "", CLOSED)),
        ("predict --depth x", ">&-", (2, "", MISTAKE)),
        ("predict --depth x", "2>&-", (2, "", "")),
        ("predict --depth x", "2> /dev/full", (2, "", "")),
        ("explain /dev/zero", "", (2, "", ENDLESS)),
        ("predict --json", "| head -0", (0, "", "")),
        ("predict", "| head -0", (0, "", "")),
        ("predict --budget 1MiB --check", "| head -0", (3, "", "")),
    ],
)
def test_the_end_of_a_command_whose_output_goes_nowhere(
    arguments: str, streams: str, expected: tuple[int, str, str]
) -> None:
    assert sh(f"{HARNESS} {arguments} {streams}") == expected


def test_an_answer_needs_no_standard_error() -> None:
    code, out, _ = sh(f"{HARNESS} predict --json 2>&-")
    assert code == 0
    assert json.loads(out)["outcome"] == "predicted"


def test_an_answer_is_printed_where_its_characters_have_no_byte() -> None:
    ascii_only = "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii"
    code, out, _ = sh(f"{ascii_only} {HARNESS} predict --gpu l4")
    assert (code, "274-768 MiB" in out) == (0, True)


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    """Else what a child process prints would be written into it."""
    code = "from harness.cli.entry import Streams; Streams()\nassert open('/dev/null').fileno() > 2"
    assert sh(f'{sys.executable} -c "{code}" <&- >&- 2>&-') == (0, "", "")


ENDING = """
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
    (tmp_path / "model.py").write_text(ENDING)
    question = ["--input", "4", "--gpu", "l4", "--memory", "800MiB", "--check"]
    question += ["--method", "estimate"]  # which is made in this very process
    command = ["harness.cli.entry", "predict", "model.py:build", *question]
    done = run(sys.executable, "-m", *command, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "does not fit" in done.stdout
    assert "a thread ended" in done.stdout
    assert "the user's own last words" in done.stdout
    assert without_progress(done.stderr) == ""


def test_on_another_system_a_command_names_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert entry.main() == 2
    assert capsys.readouterr().err.startswith("harness: darwin: the harness needs Linux")

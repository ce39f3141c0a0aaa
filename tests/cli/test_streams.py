"""Standard output that is full, closed or read by nobody: the right exit code, and one line."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full, and closed by a shell")

HARNESS = f"{sys.executable} -m harness"
FULL = "harness: standard output cannot be written: No space left on device\n"
CLOSED = "harness: standard output cannot be written: it is closed\n"
MISTAKE = "harness: --depth must be a whole number, got 'x'\n"


def sh(line: str) -> tuple[int, str, str]:
    command = ["bash", "-c", f"set -o pipefail; {line}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "streams", "expected"),
    [
        ("predict", "> /dev/full", (2, "", FULL)),
        ("predict --json", "> /dev/full", (2, "", FULL)),
        ("predict --budget 1MiB --check", "> /dev/full", (2, "", FULL)),
        ("--version", "> /dev/full", (2, "", FULL)),
        ("predict", ">&-", (2, "", CLOSED)),
        ("predict --json", ">&- <&-", (2, "", CLOSED)),
        ("predict --depth x", ">&-", (2, "", MISTAKE)),
        ("predict --depth x", "2>&-", (2, "", "")),
        ("predict --depth x", "2> /dev/full", (2, "", "")),
        ("predict --json", ">&- 2>&-", (2, "", "")),
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


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    """Else what a child process prints would be written into it."""
    code = (
        "from harness.cli.standard_output import Streams; Streams()\n"
        "assert open('/dev/null').fileno() > 2"
    )
    assert sh(f'{sys.executable} -c "{code}" <&- >&- 2>&-') == (0, "", "")

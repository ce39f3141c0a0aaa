"""A wrong name is refused before PyTorch is loaded; a right one never is."""

from pathlib import Path

import pytest

from harness.schema.errors import StepError
from harness.schema.target_name import check_target_name

TEXT = """
from package import Imported
if True:
    Chosen = Imported
def made():
    global Late
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(TEXT)
    Path("own.py").write_text("")


@pytest.mark.parametrize(
    "target",
    ["net.py:Imported", "net.py:Chosen.part", "net.py:made", "net.py:Late", "own:Any", "json:x"],
)
def test_a_name_that_may_be_there_passes(target: str) -> None:
    check_target_name(target)


@pytest.mark.parametrize(
    "text",
    [
        "from a import *",
        "globals()['Net'] = 1",
        "def __getattr__(_):0",
        "def add(): globals()['Net'] = 1\nadd()",
        "import sys\ndef add(): setattr(sys.modules[__name__], 'Net', 1)\nadd()",
    ],
)
def test_a_name_that_is_made_at_run_time_passes(text: str) -> None:
    Path("net.py").write_text(text)
    check_target_name("net.py:Net")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("net.py", "write net.py:CALLABLE, or run a script: harness dry-run -- net.py"),
        ("other.py:Net", "there is no file other.py"),
        ("no_such.module:Net", "there is no module 'no_such' here or installed"),
        ("net.py:Choosen", r"net.py has no 'Choosen' \(did you mean Chosen\?\)"),
    ],
)
def test_a_name_that_nothing_has_is_refused(target: str, message: str) -> None:
    with pytest.raises(StepError, match=message):
        check_target_name(target)


def test_a_file_that_is_no_python_is_refused_with_its_line() -> None:
    Path("net.py").write_text("x = (")
    with pytest.raises(StepError, match=r"SyntaxError: '\(' was never closed \(net.py, line 1\)"):
        check_target_name("net.py:Net")

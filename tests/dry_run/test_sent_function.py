"""Functions that can be sent to the process of a dry run, and the script that goes with them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from harness.dry_run.dry_run_request import DryRunError
from harness.dry_run.sent_function import pickled

GUARDED = """
def train():
    pass

if __name__ == "__main__":
    train()
"""


def of_script(text: str, file: Path | None, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return the function ``train`` of a script that this process seems to run."""
    main = ModuleType("__main__")
    exec(text.partition("if ")[0], main.__dict__)
    if file is not None:
        file.write_text(text)
        main.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main.train


def test_a_function_of_a_module_needs_no_script() -> None:
    assert pickled((pickled, (1, 2)))[1] is None


def test_a_function_of_a_script_comes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = of_script(GUARDED, tmp_path / "train.py", monkeypatch)
    assert pickled({"also": [train]})[1] == str(tmp_path / "train.py")


def test_a_script_that_would_run_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = of_script(GUARDED.partition("if ")[0], tmp_path / "train.py", monkeypatch)
    with pytest.raises(DryRunError, match=r"train\.py must run its code under `if __name__"):
        pickled(train)


def test_a_session_without_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    train = of_script(GUARDED, None, monkeypatch)
    with pytest.raises(DryRunError, match="not in an interactive session"):
        pickled(train)


def test_what_cannot_be_pickled_is_refused() -> None:
    with pytest.raises(DryRunError, match="cannot be sent to another process"):
        pickled(lambda: None)

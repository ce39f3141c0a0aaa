"""``.ci/install.py``: uv gets the user's configuration of pip, and a silent command is heard of."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tests.known import known

FILE = Path(__file__).parents[2] / ".ci" / "install.py"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = known(spec_from_file_location("install", FILE))
    module = module_from_spec(spec)
    known(spec.loader).exec_module(module)
    for name in module.OF_UV.values():
        monkeypatch.delenv(name, raising=False)
    return module


LISTED = """:env:.constraint='/a/cpu.txt /b/more.txt'
:env:.find-links='/opt/wheels https://host/wheels'
global.constraint='/etc/other.txt'
global.index-url='https://host/simple'
global.timeout='60'
install.no-index='1'
"""


def test_uv_gets_what_pip_would_take(install: ModuleType) -> None:
    found = install.uv_variables(LISTED)
    assert found["UV_CONSTRAINT"] == "/a/cpu.txt /b/more.txt"
    assert found["UV_FIND_LINKS"] == "/opt/wheels,https://host/wheels"
    assert found["UV_DEFAULT_INDEX"] == "https://host/simple"
    assert found["UV_NO_INDEX"] == "1"


def test_what_the_user_says_to_uv_counts(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CONSTRAINT", "/mine.txt")
    assert install.uv_variables(LISTED)["UV_CONSTRAINT"] == "/mine.txt"


def test_a_silent_command_is_heard_of_in_a_pipe(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "BEAT_SECONDS", 0.05)
    command = [sys.executable, "-c", "import time; time.sleep(1); raise SystemExit(7)"]
    assert install.run(command, "pip installs it") == 7
    first, *beats = capsys.readouterr().out.splitlines()
    assert first == "pip installs it"
    assert beats
    assert all(line.endswith(" s] pip installs it") for line in beats)


def test_an_old_python_is_refused_with_the_way_out(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "OLDEST", (9, 0))
    assert install.main() == 2
    assert "make PYTHON=python3.12" in capsys.readouterr().out

"""The wheel without the repository: types, experiments, the command, the pytest plugin."""

import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.budgets.test_pytest_plugin import MODEL
from tests.budgets.test_pytest_plugin import TEST as BUDGET_TEST
from tests.child_process import run
from tests.sweep.test_experiment_files import MINE

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).parent / "every_public_name.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel; dependencies are those of the tests."""
    root = tmp_path_factory.mktemp("wheel")
    made = run(sys.executable, "-m", "venv", "--without-pip", root / "venv", cwd=root)
    assert made.returncode == 0, made.stderr
    pip, inside = (sys.executable, "-m", "pip"), root / "venv" / "bin" / "python"
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", root, ROOT, cwd=root)
    if built.returncode:
        pytest.skip(f"the wheel cannot be built here: {built.stderr.strip().splitlines()[-1]}")
    wheels = root.glob("*.whl")
    installed = run(*pip, "--python", inside, "install", "--no-deps", *wheels, cwd=root)
    assert installed.returncode == 0, installed.stderr
    (site,) = (root / "venv").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(str(distribution("click").locate_file("")) + "\n")
    return inside


def test_a_users_script_is_typed_and_runs(python: Path, tmp_path: Path) -> None:
    """Its types are checked where the repository is: by ``make check``."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.read_text())
    done = run(python, script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package = Path(done.stdout.splitlines()[-1])
    assert package.is_relative_to(python.parents[1])
    assert (package / "py.typed").is_file()


def test_a_users_experiment_runs_and_is_reported(python: Path, tmp_path: Path) -> None:
    """In a folder where the name ``experiments``, which no wheel may take, is the user's own."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise RuntimeError\n")
    (tmp_path / "mine.py").write_text(MINE)
    done = run(python, "-m", "harness", "sweep", "mine.py", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out" / "mine" / "records.jsonl").read_text().splitlines()) == 2
    assert run(python, "-m", "harness", "report", "out", cwd=tmp_path).returncode == 0
    listed = run(python, "-m", "harness", "sweep", "--list", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    for name in ("depth_batch", "oom_thresholds"):
        assert f"\n{name} " in listed.stdout


CONFTEST = """
import sys

def pytest_collection_finish(session):
    assert session.config.pluginmanager.has_plugin("memory-budgets")
    assert "torch" not in sys.modules, "the plugin imports torch before a test needs it"
"""


def test_pytest_finds_the_memory_plugin_by_its_entry_point(python: Path, tmp_path: Path) -> None:
    """A pull request in miniature where only the wheel is installed: no ``-p``, no repository."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    test = BUDGET_TEST.format(marker="", more="")
    (tmp_path / "test_model.py").write_text(test.replace("from model", "from my_model"))

    def pytest_says(*options: str) -> tuple[int, str]:
        done = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    def widen(width: int) -> None:
        (tmp_path / "my_model.py").write_text(MODEL.format(width=width))

    widen(256)
    assert pytest_says("--memory-update")[0] == 0
    widen(1024)
    code, text = pytest_says()
    assert code == 1, text
    assert "layer 0 grew by 390 KiB" in text

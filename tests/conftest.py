"""Shared launchers, and which tests can run here.

Those marked ``cuda`` need a GPU; those marked ``exact`` a PyTorch whose rules are known.
"""

import atexit
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import harness
from harness.dry_runs.toolchain import DryRunUnavailableError, compiler, torch_build
from harness.processes.launcher import ForkLauncher, Launcher
from tests.commands import Ask
from tests.lent_launchers import LentLaunchers

HARNESS = Path(harness.__file__).parent


def asking() -> Iterator[ModuleType]:
    """Yield the modules of the harness that start a launcher where the caller brings none."""
    for path in HARNESS.rglob("*.py"):
        if " default_launcher(" in path.read_text() and path.stem != "launcher":
            parts = path.relative_to(HARNESS.parent).with_suffix("").parts
            yield import_module(".".join(parts))


@pytest.fixture(scope="session", autouse=True)
def lent_launchers() -> Iterator[LentLaunchers]:
    """Lend one fork server to all tests that ask for no launcher of their own."""
    shared = LentLaunchers()
    with pytest.MonkeyPatch.context() as patch:
        for module in asking():
            patch.setattr(module, "default_launcher", shared.lend)
        yield shared
    shared.end()


@pytest.fixture
def own() -> Iterator[ForkLauncher]:
    """A launcher that no other test has used, and that a test may break."""
    launcher = ForkLauncher("pinned")
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def launcher(lent_launchers: LentLaunchers) -> Iterator[Launcher]:
    """One launcher for all tests that do not break it."""
    shared = lent_launchers.lend("pinned")
    yield shared
    shared.close()


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run commands in this process."""
    return Ask(capsys)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


SLOWEST = (
    "packaging/test_wheel.py", "docs/test_examples.py", "processes/test_launcher.py",
    "prediction/test_trace_property.py",
)  # fmt: skip
"""Files that take a minute; they go first, because no process should be left alone with one."""


def pytest_configure() -> None:
    """Let no other library print at the end of a process what its reader cannot use.

    Triton's bindings list the objects that are left when the interpreter ends, after all handlers.
    This handler is the first that is registered, so it runs last.
    """
    atexit.register(_quiet)


def _quiet() -> None:
    sys.stderr.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.split("::")[0].endswith(SLOWEST))
    for item in items:
        needs_seconds = {"browser", "cuda_build"} & {*getattr(item, "fixturenames", ())}
        if needs_seconds and not item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.slow)
    _skip_marked(items, "cuda", _why_no_gpu)
    _skip_marked(items, "exact", _why_not_exact)


def _skip_marked(items: list[pytest.Item], name: str, why: Callable[[], str | None]) -> None:
    """Skip the tests marked ``name`` where there is a reason, which is asked for only then."""
    marked = [item for item in items if item.get_closest_marker(name)]
    reason = why() if marked else None
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_not_exact() -> str | None:
    from harness.measurement.model_check import check_model
    from harness.prediction.versions import is_newer_than_known, torch_version

    if not is_newer_than_known(torch_version()):
        return None
    return f"newer than the versions whose rules are known: {check_model()}"


def _why_no_gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    why = "torch sees no GPU" if torch.version.cuda else "the installed torch has no CUDA"
    return f"{why}; 'make cuda-dry-run' runs these tests on a pretended GPU"


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    """Print each reason to skip once, with the number of tests: hundreds share a few."""
    reports = terminalreporter.getreports("skipped")
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    if reasons:
        terminalreporter.section("not run here, and why")
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count:5} {'test' if count == 1 else 'tests'}: {reason}")


@pytest.fixture(scope="session")
def cuda_build() -> None:
    """Skip where the dry run cannot work."""
    try:
        torch_build()
        compiler()
    except DryRunUnavailableError as error:
        pytest.skip(str(error))

import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from harness.execution.launcher import ForkLauncher, Launcher, SpawnLauncher, default_launcher


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    """One launcher for all tests that do not break it."""
    shared = default_launcher("pinned")
    yield shared
    shared.close()


@pytest.fixture(params=[ForkLauncher, SpawnLauncher], ids=["fork", "spawn"])
def fresh_launcher(request: pytest.FixtureRequest) -> Iterator[Launcher]:
    """A launcher of each kind, for a test of its own."""
    if request.param is ForkLauncher and default_launcher("pinned").name != "fork":
        pytest.skip("this system has no fork")
    own: Launcher = request.param("pinned")
    yield own
    own.close()


def child(code: str) -> "subprocess.CompletedProcess[str]":
    """Run ``code`` in an interpreter of its own, which may set limits and die."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

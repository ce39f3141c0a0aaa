from collections.abc import Iterator

import pytest

from harness.measurement.process.launcher import ForkLauncher


@pytest.fixture
def own() -> Iterator[ForkLauncher]:
    """A launcher that no other test has used, and that a test may break."""
    launcher = ForkLauncher("pinned")
    yield launcher
    launcher.close()

"""Shared launchers, and which tests can run here.

Those marked ``cuda`` need a GPU; those marked ``exact`` a PyTorch whose rules are known.
"""

from collections.abc import Callable, Iterator

import pytest

from harness.measurement.process.launcher import (
    ForkLauncher,
    Launcher,
    SpawnLauncher,
    default_launcher,
)


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


SLOWEST = (
    "packaging/test_wheel.py",
    "docs/test_examples.py",
    "measurement/test_launcher.py",
    "experiments/test_any_subset.py",
    "dry_run/test_dry_run.py",
)
"""Files that take a minute; they go first, because no process should be left alone with one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.split("::")[0].endswith(SLOWEST))
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
    from harness.measurement.model_check import why_exactness_is_not_tested

    return why_exactness_is_not_tested()


def _why_no_gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    why = "torch sees no GPU" if torch.version.cuda else "the installed torch has no CUDA"
    return f"{why}; 'make cuda-dry-run' runs these tests on a pretended GPU"

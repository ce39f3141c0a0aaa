"""Shared by the tests of the dry run: if it cannot work, they are skipped and say why."""

from collections.abc import Iterator

import pytest

from tests.dry_runs.forked_runs import ForkedRuns


@pytest.fixture(scope="module")
def runs(cuda_build: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedRuns]:
    """Run scripts in forks of one process."""
    with ForkedRuns(tmp_path_factory.mktemp("runs")) as forked:
        yield forked


@pytest.fixture(scope="module")
def folding_runs(
    cuda_build: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForkedRuns]:
    """Run scripts in forks that fold the allocator's history each 50 allocations and frees."""
    with ForkedRuns(tmp_path_factory.mktemp("folding"), fold_events=50) as forked:
        yield forked

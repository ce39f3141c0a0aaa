"""Shared by the tests of the dry run: if it cannot work, they are skipped and say why."""

import pytest

from harness.dry_runs.toolchain import DryRunUnavailableError, compiler, torch_build


@pytest.fixture(scope="session")
def cuda_build() -> None:
    """Skip where the dry run cannot work."""
    try:
        torch_build()
        compiler()
    except DryRunUnavailableError as error:
        pytest.skip(str(error))

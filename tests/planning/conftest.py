"""Tests of dry runs need a CUDA build of PyTorch; the same answers are estimated elsewhere."""

import pytest

from harness.dry_runs.build import build
from harness.dry_runs.toolchain import DryRunUnavailableError, torch_build


@pytest.fixture(scope="session")
def dry_run_here() -> None:
    """Skip where no GPU can be pretended."""
    try:
        build(torch_build())
    except DryRunUnavailableError as error:
        pytest.skip(f"needs the dry run: {error}")

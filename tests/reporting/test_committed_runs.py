"""The committed runs are whole, of one commit, and of the code of today."""

import itertools
from pathlib import Path

import pytest

from harness.reporting.claims import LITERATURE_REFERENCE, REFERENCE
from harness.reporting.verify import verify
from harness.reporting.verify_again import again

CUDA_REFERENCE = REFERENCE.with_name("reference-cuda-dry-run")
RUNS = pytest.mark.parametrize(
    "folder", [REFERENCE, CUDA_REFERENCE, LITERATURE_REFERENCE], ids=lambda folder: folder.name
)
AGAIN = "make the run again where the code that measures has changed: make references"


@RUNS
def test_a_committed_run_is_that_of_the_code_of_today(folder: Path) -> None:
    checks = list(itertools.islice(verify(folder), 4))  # without the analysis, which takes seconds
    assert [one.name for one in checks] == ["files", "records", "commit", "code"]
    assert {one.name: one.problems for one in checks if one.problems} == {}, AGAIN


@RUNS
@pytest.mark.slow
def test_the_records_of_a_committed_run_give_its_report(folder: Path) -> None:
    (report,) = itertools.islice(verify(folder), 4, None)
    assert report.problems == ()


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "count"), [(REFERENCE, 4), (LITERATURE_REFERENCE, 1)])
def test_cells_of_a_reference_are_measured_alike_today(folder: Path, count: int) -> None:
    assert again(folder, count, 0).problems == ()

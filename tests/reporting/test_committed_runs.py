"""The committed runs are whole, of one commit, and of the code of today."""

import itertools
from pathlib import Path

import pytest

from harness.measurement.measuring_code import measuring_code
from harness.reporting.claims import LITERATURE_REFERENCE, REFERENCE
from harness.reporting.data_package import read_data_package
from harness.reporting.verify import verify
from harness.reporting.verify_again import again

CUDA_REFERENCE = REFERENCE.with_name("reference-cuda-dry-run")
RUNS = pytest.mark.parametrize(
    "folder", [REFERENCE, CUDA_REFERENCE, LITERATURE_REFERENCE], ids=lambda folder: folder.name
)
SAME_BYTES = {("5d776acf0ab3", "d9af6980879c"), ("5b50d0fc6d98", "342d52d5d98f")}
"""Code that made a run, and code of today that differs by nothing that it could meet: policies are
not applied under a replaced malloc, which no committed run had. Any further change fails."""
AGAIN = "make the run again where the code that measures has changed: make references"


@RUNS
def test_a_committed_run_is_that_of_the_code_of_today(folder: Path) -> None:
    checks = list(itertools.islice(verify(folder), 4))  # without the analysis, which takes seconds
    assert [one.name for one in checks] == ["files", "records", "commit", "code"]
    older = {"commit", "code"} if folder == LITERATURE_REFERENCE else set()  # results/README.md
    found = {one.name: one.problems for one in checks if one.problems}
    made_by = read_data_package(folder).code
    today = {measuring_code(pretended=pretended) for pretended in (False, True)}
    if made_by and all(any((one, new) in SAME_BYTES for new in today) for one in made_by):
        older = {"code"}
    assert {name: said for name, said in found.items() if name not in older} == {}, AGAIN


@RUNS
@pytest.mark.slow
def test_the_records_of_a_committed_run_give_its_report(folder: Path) -> None:
    (report,) = itertools.islice(verify(folder), 4, None)
    assert report.problems == ()


@pytest.mark.slow
def test_cells_of_the_reference_are_measured_alike_today() -> None:
    assert again(REFERENCE, 4, 0).problems == ()

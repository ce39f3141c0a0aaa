"""The committed runs are whole, of one commit, and of the code of today."""

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.reporting.claims import LITERATURE_REFERENCE, REFERENCE
from harness.reporting.verify import verify
from harness.reporting.verify_again import again

CUDA_REFERENCE = REFERENCE.with_name("reference-cuda-dry-run")
RUNS = pytest.mark.parametrize(
    "folder", [REFERENCE, CUDA_REFERENCE, LITERATURE_REFERENCE], ids=lambda folder: folder.name
)
_NOT_READ = {"head", "style", "script", "svg"}
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


class _Words(HTMLParser):
    """Counts the words of a page that a reader sees with everything folded."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self._inside = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _NOT_READ or tag in ("details", "summary"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        folded = self._inside.count("details") > self._inside.count("summary")
        if not folded and _NOT_READ.isdisjoint(self._inside):
            self.count += len(re.findall(r"\S*\w\S*", data))


@pytest.mark.parametrize(("page", "most"), [("report.html", 900), ("evidence.html", 6000)])
@pytest.mark.parametrize("folder", [REFERENCE, CUDA_REFERENCE], ids=lambda folder: folder.name)
def test_a_page_is_short_enough_to_be_read(folder: Path, page: str, most: int) -> None:
    words = _Words()
    words.feed((folder / page).read_text())
    assert most / 4 < words.count <= most

"""``harness report --check``: a run that was changed in any way is not the run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

import harness
from harness.reporting.data_package import DATA_PACKAGE, read_data_package
from harness.reporting.dictionary import dictionary, meaning
from harness.reporting.report import write_report
from harness.reporting.verify import verify
from harness.reporting.verify_again import again
from harness.schema.record import from_json, to_json
from tests.commands import Ask

RECORDS = "depth_batch/records.jsonl"


def problems(folder: Path) -> dict[str, str]:
    return {one.name: "; ".join(one.problems) for one in verify(folder) if one.problems}


def replaced(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def _left_out(folder: Path) -> None:
    (folder / RECORDS).write_text((folder / RECORDS).read_text().partition("\n")[2])


def _other_commit(folder: Path) -> None:
    lines = (folder / RECORDS).read_bytes().splitlines()
    first = from_json(lines[0])
    changed = replace(first, environment={**first.environment, "git_commit": "abd+", "code": "1"})
    (folder / RECORDS).write_bytes(b"\n".join([to_json(changed), *lines[1:]]) + b"\n")
    write_report(folder)


OTHER_DIGIT = replaced(RECORDS, '"saved_bytes":67332', '"saved_bytes":67333')
OTHER_CLAIM = replaced("claims.json", '"holds"', '"fails"')


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (OTHER_DIGIT, {"files": "as many bytes, other ones", "report": "records give another one"}),
        (_left_out, {"files": "17 records for 18"}),
        (OTHER_CLAIM, {"files": "claims.json: not the file", "report": "claims.json"}),
        (
            lambda folder: shutil.copytree(folder / "depth_batch", folder / "width"),
            {"files": "width/records.jsonl: not listed"},
        ),
        (_other_commit, {"commit": "the records name 2 commits", "code": "1: the code"}),
        (lambda folder: (folder / "report.md").unlink(), {"files": "not there"}),
    ],
)
def test_a_change_is_found(
    small_run: Path, tmp_path: Path, change: Callable[[Path], object], found: dict[str, str]
) -> None:
    shutil.copytree(small_run, tmp_path / "copy")
    change(tmp_path / "copy")
    seen = problems(tmp_path / "copy")
    for name, words in found.items():
        assert words in seen[name]


def test_a_run_as_it_was_made_passes(small_run: Path, ask: Ask) -> None:
    ask(["report", str(small_run), "--check"])
    package = read_data_package(small_run)
    assert next(one for one in package.resources if one.path == RECORDS).lines == 18
    assert DATA_PACKAGE not in {one.path for one in package.resources}


@pytest.mark.slow
def test_cells_are_measured_again(tmp_path: Path) -> None:
    step = harness.Workload(width=8, in_features=8, batch=4)
    folder = harness.sweep([step], out=tmp_path / "tiny", repeats=1)
    assert again(folder, 2, 0).problems == ()
    (record,) = (tmp_path / "tiny").rglob("records.jsonl")
    changed = replace(from_json(record.read_bytes()), saved_bytes=451)
    record.write_bytes(to_json(changed) + b"\n")
    (problem,) = again(folder, 2, 0).problems
    assert problem.endswith("saved_bytes is 452 here, 451 in the run")
    spoilt = replace(from_json(record.read_bytes()), saved_bytes=452)
    far = tuple(replace(one, rss_rise_bytes=2**22) for one in spoilt.repeats)
    record.write_bytes(to_json(replace(spoilt, repeats=far)) + b"\n")
    (problem,) = again(folder, 2, 0).problems
    assert "further apart than both vary" in problem


def test_every_column_has_a_meaning_that_the_page_of_metrics_repeats() -> None:
    page = Path("docs/metrics.md").read_text()
    for column in dictionary():
        assert column.description, column.name
        assert column.unit or not column.name.endswith(("_bytes", "_seconds"))
    for name in ("saved_bytes", "peak_live_bytes", "rss_rise_bytes", "cuda.reserved_peak_bytes"):
        assert f"| `{name}` | {meaning(name)} |" in page

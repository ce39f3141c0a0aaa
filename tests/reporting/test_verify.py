"""``harness report --check``: a run that was changed in any way is not the run."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

import harness
from harness.reporting.claims import LITERATURE_REFERENCE, ReportFileError
from harness.reporting.manifest import MANIFEST, read_manifest
from harness.reporting.report import write_report
from harness.reporting.verify import verify
from harness.reporting.verify_again import _differences, again
from harness.schema.record import Outcome, Record, from_json, to_json
from harness.schema.traced_run import STEP_RUNS
from harness.schema.traced_run import from_json as steps_from_json
from tests.child_process import run
from tests.commands import Ask
from tests.known import known

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
also_slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            OTHER_DIGIT,
            {
                "files": "records.jsonl: differs from the file",
                "report": "records give another text",
            },
        ),
        also_slow(_left_out, {"files": "records.jsonl: differs from the file"}),
        (OTHER_CLAIM, {"files": "claims.json: differs from the file", "report": "claims.json"}),
        also_slow(
            lambda folder: shutil.copytree(folder / "depth_batch", folder / "width"),
            {"files": "width/records.jsonl: not listed"},
        ),
        also_slow(
            lambda folder: (folder / "earlier.json").write_text('{"machine":"x","claims":[]}'),
            {"files": "earlier.json: not listed"},
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
    assert {RECORDS, "report.html", "claims.json"} <= read_manifest(small_run).keys()
    assert run("sha256sum", "--check", "--strict", MANIFEST, cwd=small_run).returncode == 0


def test_a_manifest_that_is_none_names_its_line(small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run, tmp_path / "copy")
    with (tmp_path / "copy" / MANIFEST).open("a") as file:
        file.write("no hash\n")
    with pytest.raises(ReportFileError, match=r"is not a SHA-256 and a path: 'no hash'"):
        problems(tmp_path / "copy")


@pytest.mark.slow
def test_cells_are_measured_again(tmp_path: Path) -> None:
    step = harness.Workload(width=8, in_features=8, batch=4)
    folder = harness.sweep([step], out=tmp_path / "tiny", repeats=3)  # one time may be far off
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
    assert "this difference exceeds both spreads" in problem


def test_a_16_bit_cell_of_another_processor_differs_with_that_reason() -> None:
    step = harness.Workload(dtype="bfloat16")
    there = Record(
        workload_id=step.id,
        workload=step,
        outcome=Outcome.OK,
        environment={"cpu_bfloat16": "amx_bf16"},
        peak_live_bytes=8,
    )
    here = replace(there, peak_live_bytes=9, environment={"cpu_bfloat16": "none"})
    peak, reason = _differences(there, here)
    assert peak == "peak_live_bytes is 9 here, 8 in the run"
    assert reason.endswith("is none here, amx_bf16 in the run")
    assert [*_differences(there, replace(here, environment=there.environment))] == [peak]


@pytest.mark.slow
def test_a_cell_that_cannot_be_measured_again_is_a_problem(tmp_path: Path) -> None:
    step = harness.Workload(width=8, in_features=8, batch=4)
    folder = harness.sweep([step], out=tmp_path / "tiny", repeats=1)
    (record,) = (tmp_path / "tiny").rglob("records.jsonl")
    known = from_json(record.read_bytes())
    on_gpu = step.replace(device="cuda")
    elsewhere = replace(
        known,
        workload=on_gpu,
        workload_id=on_gpu.id,
        environment={**known.environment, "device": "dry run, NVIDIA Nothing"},
    )
    record.write_bytes(to_json(elsewhere) + b"\n")
    (problem,) = again(folder, 1, 0).problems
    assert "not measured: harness sweep ended with 2: " in problem
    assert "NVIDIA Nothing" in problem


@pytest.mark.slow
def test_a_step_is_measured_again_and_a_planted_byte_is_found(tmp_path: Path) -> None:
    run_of = LITERATURE_REFERENCE / "smaller_states" / STEP_RUNS
    lines = [steps_from_json(line) for line in run_of.read_bytes().splitlines()]
    step = next(one for one in lines if one.metrics is not None and one.job.device == "cpu")
    metrics = known(step.metrics)
    (tmp_path / "smaller_states").mkdir()
    for more, found in ((0, 0), (1, 1)):
        peak = known(metrics.peak_live_bytes) + more
        planted = replace(step, metrics=replace(metrics, peak_live_bytes=peak))
        (tmp_path / "smaller_states" / STEP_RUNS).write_bytes(to_json(planted) + b"\n")
        assert len(again(tmp_path, 1, 0).problems) == found

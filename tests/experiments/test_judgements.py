"""The frame of the claims of the literature: nothing missing or doubtful becomes a verdict."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from experiments.literature.claim_texts import ClaimText, claim_texts
from experiments.literature.judgements import claim_experiment, widest
from harness.analysis import AnalysisError
from harness.analysis.evidence import gather
from harness.dry_runs.toolchain import DryRunUnavailableError
from harness.reporting.progress import Lines
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Check, Judgement, Verdict
from harness.schema.metrics import Metrics
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome, to_json
from harness.schema.traced_run import STEP_RUNS, StepJob, StepRun
from harness.sweeps.experiment_files import (
    find,
    literature_names,
    names_found,
    own_names,
    placed_job,
)
from harness.sweeps.sweep import run
from harness.sweeps.traced_runner import TracedRunner

TEXT = ClaimText(
    order=1, title="Two", headline="two", citation="A", quote="B", sentence="Two is enough.",
    holds_if="two are enough", cases="cases", closed_form="1 + 1", limits="None.",
)  # fmt: skip


def job(batch: int, network: str = "torch.nn:Linear") -> StepJob:
    return StepJob(
        network=network, arguments={"in_features": 8, "out_features": 2}, batch=batch,
        inputs=("8",), loss="sum",
    )  # fmt: skip


def jobs(size: Size) -> Iterable[StepJob]:
    return [job(4)] if size is Size.QUICK else [job(4), job(8)]


def experiment(*checks: Check, fails: bool = False) -> Experiment:
    """Return a claim whose judge says that it holds or fails, whichever steps are there."""

    def judge(*_: object) -> Judgement:
        if fails:
            raise LookupError("a step is missing")
        return Judgement(verdict=Verdict.SUPPORTED, number="2", measured="Two.", checks=checks)

    return dataclasses.replace(claim_experiment(TEXT, jobs=jobs, judge=judge), name="two")


def planted(folder: Path, *runs: StepRun) -> Evidence:
    folder.mkdir(exist_ok=True)
    (folder / STEP_RUNS).write_bytes(b"".join(to_json(one) + b"\n" for one in runs))
    return gather(experiment(), folder)


def well(batch: int) -> StepRun:
    return StepRun(job=job(batch), outcome=Outcome.OK, metrics=Metrics(saved_bytes=batch))


def failed(batch: int) -> StepRun:
    why: FailureEvidence = {"message": "no CUDA build"}
    return StepRun(job=job(batch), outcome=Outcome.UNSUPPORTED, evidence=why)


@pytest.mark.parametrize("lines", [(well(8),), (failed(4),), (well(4), failed(8)), ()])
def test_a_claim_with_steps_missing_is_open_whatever_its_judge_says(
    tmp_path: Path, lines: tuple[StepRun, ...]
) -> None:
    blind = experiment(Check(name="n", value=1, second=1, second_from="itself"))
    for one in (blind, experiment(fails=True)):
        (claim,) = one.analyse(planted(tmp_path, *lines)).claims
        assert claim.verdict is Verdict.OPEN
        assert "missing" in claim.open_reason
    (steps,) = blind.analyse(planted(tmp_path, failed(4))).tables
    assert list(steps.frame["reason"]) == ["no CUDA build"]


def test_no_verdict_rests_on_a_number_that_was_derived_once(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="second way"):
        experiment().analyse(planted(tmp_path, well(4)))


@pytest.mark.parametrize(
    ("allowed", "gates", "expected"),
    [(0, True, Verdict.OPEN), (1, True, Verdict.SUPPORTED), (0, False, Verdict.SUPPORTED)],
)
def test_two_measurements_that_differ_leave_a_claim_open_and_a_law_that_fails_is_said(
    allowed: int, gates: bool, expected: Verdict, tmp_path: Path
) -> None:
    check = widest("n", [(7, 7), (9, 8)], "other counter", allowed=allowed, gates=gates)
    assert check.difference == 1
    (claim,) = experiment(check).analyse(planted(tmp_path, well(4))).claims
    assert claim.verdict is expected
    assert ("differs from the other counter by 1" in claim.measured) == (not check.holds)


def test_a_leading_dot_stands_for_the_package_or_the_folder_of_the_experiment(
    tmp_path: Path,
) -> None:
    assert find("sqrt_checkpoints").steps_from == "experiments.literature.steps"
    assert find("compiled_memory").steps_from == "experiments.compiled_memory"
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from harness.schema.experiment import Experiment\n"
        "EXPERIMENT = Experiment(title='', question='', analyse=None, steps_from='.nets')\n"
    )
    assert find(str(mine)).steps_from == tmp_path / "nets"
    for name, start, whole in (
        (".net:train", "experiments.width", "experiments.width.net:train"),
        ("..net:train", "experiments.width", "experiments.net:train"),
        (".net:train", tmp_path, f"{tmp_path}/net.py:train"),
        ("..a.net:train", tmp_path / "b", f"{tmp_path}/a/net.py:train"),
        ("sgd", "experiments.width", "sgd"),
    ):
        assert placed_job(msgspec.structs.replace(job(4), network=name), start).network == whole


def test_no_command_without_the_flag_runs_them() -> None:
    names = literature_names()
    assert "sqrt_checkpoints" in names
    assert sorted(claim_texts()) == names
    assert not set(names) & {*own_names(), *names_found(), "literature"}


def test_where_no_gpu_can_be_pretended_a_step_on_cuda_is_a_line_that_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(*_: object) -> None:
        raise DryRunUnavailableError("torch is no CUDA build")

    monkeypatch.setattr("harness.sweeps.traced_runner.checked", none)
    on_cuda = msgspec.structs.replace(job(4), device="cuda")
    line, _ = TracedRunner(1.0).submit(on_cuda, 1).result()
    assert (line.outcome, line.problem) == (Outcome.UNSUPPORTED, "torch is no CUDA build")


@pytest.mark.slow
def test_a_step_that_fails_is_a_line_and_none_is_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = job(4, "torch.nn:Bilinear")
    made = dataclasses.replace(experiment(), step_jobs=lambda _: [job(4), broken])
    for done in ("2 cells\n", "2 cells, 2 saved already"):
        run(made, Size.QUICK, tmp_path, Lines())
        assert done in capsys.readouterr().err
    lines = (tmp_path / "two" / STEP_RUNS).read_bytes().splitlines()
    outcomes = [one.split(b'"outcome":"')[1].split(b'"')[0] for one in lines]
    assert outcomes == [b"ok", b"error"]

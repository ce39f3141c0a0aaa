"""Evidence that is missing or contradicts itself decides nothing, and the page says so first."""

import functools
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.evidence import gather, section_of
from harness.reporting.claims import read_claims
from harness.reporting.report import write_report
from harness.schema.experiment import Size
from harness.schema.findings import Claim, Verdict
from harness.sweeps.experiment_files import find, find_own, literature_names, names_found

REFERENCE = Path(__file__).parents[2] / "results" / "reference-cpu"
Line = dict[str, Any]
Change = Callable[[Line], Line]


def lines_of(name: str, file: str = "records.jsonl") -> list[Line]:
    return [json.loads(line) for line in (REFERENCE / name / file).read_text().splitlines()]


def planted(folder: Path, name: str, lines: Iterable[Line], file: str = "records.jsonl") -> Path:
    own = folder / name
    own.mkdir(parents=True)
    (own / file).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if file != "records.jsonl" and (REFERENCE / name / "records.jsonl").is_file():
        shutil.copy(REFERENCE / name / "records.jsonl", own)
    return own


def claims_of(folder: Path, name: str) -> tuple[Claim, ...]:
    return section_of(find(name), folder)[0].claims


def bytes_of(line: Line, factor: float, *keys: str) -> Line:
    """Multiply every size below the keys, or all sizes of a record."""

    def times(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: times(one, name) for name, one in value.items()}
        inside = key.endswith("_bytes") or key in KINDS
        return round(value * factor) if inside and isinstance(value, int) else value

    wanted = keys or METRICS
    return {key: times(one, key) if key in wanted else one for key, one in line.items()}


KINDS = ("parameter", "gradient", "optimizer_state", "input", "activation", "temporary")
SAVED = ("saved_bytes", "saved_input_bytes", "saved_activation_bytes", "modules")
METRICS = (
    "saved_bytes", "saved_input_bytes", "saved_activation_bytes", "peak_live_bytes", "phases",
    "categories_at_peak", "modules", "live_at_start_bytes", "live_before_forward_bytes",
)  # fmt: skip


def of_another(key: str, value: str) -> Change:
    def change(line: Line) -> Line:
        is_half = line["workload"].get("batch", 0) > 256
        return {**line, "environment": {**line["environment"], key: value}} if is_half else line

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda one: bytes_of(one, 1 / 1024), "batch of 50,304 bytes, but 49 bytes of them"),
        (lambda one: bytes_of(one, 1 / 1024, "peak_live_bytes"), "the peak is "),
        (lambda one: bytes_of(one, 0, "saved_activation_bytes"), "their parts"),
        (
            lambda one: bytes_of(one, 0, *SAVED),
            "a training step saves no activations",
        ),
        (lambda one: bytes_of(one, 1.5, "phases"), "its phase's"),
        (of_another("torch", "9.9"), "2 versions of PyTorch"),
        (of_another("cpu", "another"), "2 processors"),
        (of_another("code", "123"), "2 versions of the code"),
    ],
    ids=["KiB", "peak KiB", "nothing saved", "all zero", "phases", "torch", "machine", "code"],
)  # fmt: skip
def test_a_contradiction_opens_every_claim_and_is_the_answer(
    change: Change, why: str, tmp_path: Path
) -> None:
    trained = [one for one in lines_of("depth_batch") if one["outcome"] == "ok"]
    folder = planted(tmp_path, "depth_batch", map(change, trained))
    section, _ = section_of(find("depth_batch"), folder)
    assert section.claims[0].sentence.startswith("The size of such intermediate values")
    for claim in section.claims:
        assert claim.verdict is Verdict.OPEN, claim.sentence
        assert "its evidence contradicts itself" in claim.open_reason
        assert why in claim.open_reason
    (answer,) = section.summary
    assert answer.startswith("Open, because evidence contradicts itself: Depth times batch")


def test_the_first_sentence_of_a_page_names_the_contradiction(tmp_path: Path) -> None:
    lines = lines_of("accumulation")
    planted(tmp_path, "accumulation", [*lines, *(bytes_of(one, 3) for one in lines)])
    shutil.copytree(REFERENCE / "training_run", tmp_path / "training_run")
    write_report(tmp_path)
    found = read_claims(tmp_path)
    assert found.answer[0].startswith("Open, because evidence contradicts itself: Micro-batches:")
    assert {one.verdict for one in found.claims if one.experiment == "accumulation"} == {"open"}
    assert "open" not in {one.verdict for one in found.claims if one.experiment == "training_run"}


def test_attempts_that_differ_are_a_contradiction_and_alike_ones_are_not(tmp_path: Path) -> None:
    lines = lines_of("accumulation")
    alike = claims_of(planted(tmp_path / "alike", "accumulation", [*lines, *lines]), "accumulation")
    assert [one.verdict for one in alike] == [Verdict.SUPPORTED, Verdict.REFUTED]
    more = [*lines, *(bytes_of(one, 3) for one in lines)]
    for one in claims_of(planted(tmp_path / "differ", "accumulation", more), "accumulation"):
        assert one.verdict is Verdict.OPEN
        assert "2 attempts have different numbers" in one.open_reason


def test_a_failed_attempt_before_a_good_one_is_no_contradiction(tmp_path: Path) -> None:
    lines = lines_of("accumulation")
    kept = ("schema", "workload_id", "workload", "outcome", "environment")
    failed = [{key: one[key] for key in kept} | {"outcome": "oom"} for one in lines]
    evidence = gather(find("accumulation"), planted(tmp_path, "accumulation", [*failed, *lines]))
    assert evidence.doubts == ()
    assert set(evidence.frame["outcome"]) == {"ok"}


def test_cells_that_were_asked_for_and_are_missing_leave_a_claim_open(tmp_path: Path) -> None:
    lines = [one for one in lines_of("accumulation") if one["workload"].get("accumulate", 1) < 8]
    folder = planted(tmp_path, "accumulation", lines)
    evidence = gather(find("accumulation"), folder)
    assert evidence.size is Size.FULL
    assert (evidence.frame["outcome"] == "missing").sum() == 24 - len(lines)
    assert {one.verdict for one in claims_of(folder, "accumulation")} == {Verdict.OPEN}


def threshold(change: Change) -> list[Line]:
    return [*map(change, lines_of("oom_thresholds", "thresholds.jsonl"))]


def in_error_above_4(line: Line) -> Line:
    if line["workload"].get("depth", 1) <= 4:
        return line
    left = dict.fromkeys(("largest_fit", "smallest_fail", "headroom"))
    return {**line, **left, "outcome": "error", "probes": [], "confirmed": False}


also_slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (in_error_above_4, "needed"),
        also_slow(
            lambda one: {**one, "predicted": None} if one["workload"].get("depth", 1) > 4 else one,
            "",
        ),
        (lambda one: {**one, "largest_fit": one["largest_fit"] * 1024}, "that of the probes"),
        also_slow(
            lambda one: {**one, "smallest_fail": one["largest_fit"]}, "the smallest failure is"
        ),
        also_slow(lambda one: {**one, "budget_bytes": one["budget_bytes"] // 1024}, "parts"),
    ],
    ids=["failed above depth 4", "no predictions", "batches", "no gap", "budgets in KiB"],
)
def test_thresholds_that_are_missing_or_impossible_decide_nothing(
    change: Change, words: str, tmp_path: Path
) -> None:
    folder = planted(tmp_path, "oom_thresholds", threshold(change), "thresholds.jsonl")
    deeper, predictable = claims_of(folder, "oom_thresholds")
    assert predictable.verdict is Verdict.OPEN
    assert words in predictable.open_reason
    assert deeper.verdict is Verdict.OPEN or words == ""
    answer = section_of(find("oom_thresholds"), folder)[0].summary[0]
    assert answer.startswith(("Open", "It is open"))


@pytest.mark.parametrize("run", ["reference-cpu", "reference-cuda-dry-run", "literature"])
def test_the_committed_runs_have_no_contradiction(run: str) -> None:
    known = {*names_found(), *literature_names()}
    for name in known:
        folder = REFERENCE.parent / run / name
        if folder.is_dir():
            assert gather(find_own(name), folder).doubts == (), folder

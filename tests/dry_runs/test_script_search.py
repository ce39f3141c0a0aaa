"""The largest value of a script's argument, found with planted reports and with a real script."""

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harness.cli.app import main
from harness.dry_runs.dry_run_report import Device, DryRunReport, UnknownValues
from harness.dry_runs.script_search import START, largest_of_script
from harness.dry_runs.value_answers import DryRunError
from harness.schema.metrics import CudaPeaks
from harness.schema.record import Outcome
from tests.commands import Ask

GIB = 1 << 30


def planted(
    need: Callable[[int], int], outcome: Outcome = Outcome.OK
) -> Callable[[int], DryRunReport]:
    """Return runs of a planted need on a GPU of 10 GiB."""

    def run(value: int) -> DryRunReport:
        fits = need(value) <= 10 * GIB
        return DryRunReport(
            outcome=outcome if fits else Outcome.OOM,
            gpu="planted",
            gpu_total_bytes=10 * GIB,
            outside_bytes=(0, 0),
            cuda=CudaPeaks(allocated_peak_bytes=min(need(value), 10 * GIB)),
            fit="fits" if fits else "does not fit",
        )

    return run


@pytest.mark.parametrize("slope", [5_000, 7_000_001, GIB // 3, 4 * GIB])
def test_the_value_fits_and_the_next_one_was_seen_to_fail(slope: int) -> None:
    largest = largest_of_script("batch", planted(lambda n: GIB + slope * n), lambda *_: None)
    expected = 9 * GIB // slope
    assert largest.value == expected
    assert largest.tried[expected] == "ok"
    assert largest.tried[expected + 1] == "oom"
    assert len(largest.tried) < 15
    fails = f"{expected:,}; {expected + 1:,} fails ({len(largest.tried)} dry runs)"
    assert largest.answer() == f"largest batch on planted: {fails}"


def test_the_end_of_the_search_is_no_answer() -> None:
    largest = largest_of_script("batch", planted(lambda n: GIB + n), lambda *_: None)
    assert (largest.value, largest.is_found) == (None, False)
    fits = "batch: each one up to 16,777,216 fits on planted; no larger one is tried"
    assert largest.answer() == fits


def test_a_script_that_runs_from_two_on_is_searched_from_there() -> None:
    """Batch normalization refuses one example, whose failure ended the search."""

    def run(value: int) -> DryRunReport:
        report = planted(lambda n: 3 * GIB * n)(value)
        return replace(report, outcome=Outcome.ERROR) if value == 1 else report

    assert largest_of_script("batch", run, lambda *_: None).value == 3


def test_where_nothing_fits_and_where_the_script_fails() -> None:
    none = largest_of_script("batch", planted(lambda n: 11 * GIB + n), lambda *_: None)
    assert none.value is None
    assert none.answer() == "no batch fits on planted"
    with pytest.raises(DryRunError, match=f"with batch {START} the script did not end well: error"):
        largest_of_script("batch", planted(lambda n: n, Outcome.ERROR), lambda *_: None)


def test_a_script_that_ignores_the_value_is_run_twice() -> None:
    device = Device(index=0, peaks=CudaPeaks(), requested_total_bytes=5)
    report = replace(planted(lambda _: 5)(1), devices=(device,))
    seen: list[int] = []
    with pytest.raises(DryRunError, match="batch does not change what is allocated: 4 and 8 make"):
        largest_of_script("batch", lambda _: report, lambda value, _: seen.append(value))
    assert seen == [4, 8]


SCRIPT = """
import sys, torch
print("a line without an end", end="")
torch.empty(int(sys.argv[1]), 1 << 30, dtype=torch.uint8, device="cuda")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_a_real_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    gpu = ["--gpu", "t4", "--memory", "2560MiB", "--outside", "1GiB"]
    search = ["--largest", "number of blocks", "--json"]
    assert main(["dry-run", *gpu, *search, "-m", "pack.train", "--", "{}"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out.splitlines()[-1])["largest"] == 1
    assert "number of blocks 2: oom" in said.err


def test_the_script_is_silent_and_values_that_move_no_peak_are_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[dict[str, Any]] = []
    same = CudaPeaks(reserved_peak_bytes=GIB)
    unknown = UnknownValues(
        runs=2, lines=("train.py:7",), checks=(), moves=False, lowest=same, highest=same
    )

    def run(script: str, value: str, **options: Any) -> DryRunReport:
        given.append(dict(options))
        report = planted(lambda n: GIB + GIB // 3 * n)(int(value))
        return replace(report, unknown=unknown)

    monkeypatch.setattr("harness.dry_runs.run.dry_run", run)
    assert main(["dry-run", "--largest", "batch", "--", "train.py", "{}"]) == 0
    assert all(options["quiet"] for options in given)
    assert [options["try_values"] for options in given] == [True, *[False] * (len(given) - 1)]
    unknown = replace(unknown, moves=True)
    given.clear()
    assert main(["dry-run", "--largest", "batch", "--", "train.py", "{}"]) == 0
    assert all(options["try_values"] for options in given)


def test_a_notebook_sees_the_verdict_and_the_peaks_first() -> None:
    report = planted(lambda n: n * GIB)(3)
    assert report.summary().startswith("ok, fits on a pretended planted (10 GiB)\nallocated peak 3")
    words = "Dry run of your script on a pretended planted (10 GiB): ok, fits"
    assert report._repr_html_().startswith(f"<p><strong>{words}</strong>")
    row = report.to_frame().iloc[0]
    assert (row["fit"], int(row["cuda.allocated_peak_bytes"])) == ("fits", 3 * GIB)


@pytest.mark.parametrize(
    "typed", ["-- train.py", "-m json.tool --", "-- torchrun --nproc-per-node 2 train.py"]
)
def test_the_next_steps_of_a_failure_keep_the_options_and_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask, typed: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    asked: list[dict[str, Any]] = []

    def run(*_: object, **given: Any) -> DryRunReport:
        asked.append(given)
        return planted(int)(11 * GIB)

    monkeypatch.setattr("harness.dry_runs.run.dry_run", run)
    monkeypatch.setattr("harness.cli.torchrun_ranks.carries", lambda _: False)
    said = ask(["dry-run", "--memory", "3GiB", *typed.split(), "--bs", "8", "--a", "1"], code=3)
    start = "  harness dry-run --memory 3GiB"
    assert said.out.splitlines()[-2:] == [
        f"{start} --largest batch {typed} --bs '{{}}' --a 1",
        f"{start} --snapshot run.pickle {typed} --bs 8 --a 1; harness explain run.pickle",
    ]
    ranks = 2 if "torchrun" in typed else None
    assert (asked[0]["world_size"], asked[0]["gpus"]) == (ranks, ranks or 1)


def test_a_module_that_only_a_finder_knows_is_run(
    monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """As the finders of editable installations do."""

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> ModuleSpec | None:
            return ModuleSpec(name, None) if name == "edited" else None

    monkeypatch.setattr("sys.meta_path", [*sys.meta_path, Finder])
    monkeypatch.setattr("harness.dry_runs.run.dry_run", lambda *_, **__: planted(int)(1))
    assert "ok, fits" in ask(["dry-run", "--gpu", "l4", "-m", "edited.train"]).out


@pytest.mark.parametrize("words", [[], ["16"], ["--eval-batch-size", "8"], ["--batch", "auto"]])
def test_no_search_is_suggested_without_an_option_for_the_batch(
    monkeypatch: pytest.MonkeyPatch, ask: Ask, words: list[str]
) -> None:
    monkeypatch.setattr("harness.dry_runs.run.dry_run", lambda *_, **__: planted(int)(11 * GIB))
    said = ask(["dry-run", "--memory", "3GiB", "--", "train.py", *words], code=3).out
    assert "--largest" not in said
    assert "--snapshot run.pickle" in said


def test_a_search_that_ends_early_says_what_it_knows() -> None:
    known: list[str] = []
    runs: list[int] = []

    def run(value: int) -> DryRunReport:
        runs.append(value)
        if len(runs) == 4:
            raise KeyboardInterrupt
        return planted(lambda batch: batch * GIB // 100 + GIB * (batch > 8))(value)

    with pytest.raises(KeyboardInterrupt):
        largest_of_script("batch", run, lambda *_: None, known.append)
    assert known == [f"so far, batch 8 fits, {runs[2]:,} does not"]


def test_an_estimate_that_is_too_high_is_left_in_steps_of_a_few_percent() -> None:
    """A fragmented script needs 10% more than its allocated bytes say (the ResNet of a review)."""

    def run(value: int) -> DryRunReport:
        report = planted(lambda batch: batch * GIB // 180)(value)
        fits = value * GIB // 162 <= 10 * GIB
        return report if fits else replace(report, outcome=Outcome.OOM, fit="does not fit")

    largest = largest_of_script("batch", run, lambda *_: None)
    assert largest.value == 1620
    assert len(largest.tried) <= 15, "in steps of 1, 2, 4, 8, ... there were 18"

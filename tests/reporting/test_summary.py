"""How a run ends on a terminal, what its claims file holds, and how a sweep shows itself."""

import io
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli.app import main
from harness.reporting import progress
from harness.reporting.claims import Claim, Claims, ClaimsError, read_claims, write_claims
from harness.reporting.parallel import run_each
from harness.reporting.report import write_report
from harness.reporting.summary import print_claims, print_summary
from harness.schema.terminal_console import PlainConsole
from tests.analysis import planted


def _claim(name: str, verdict: str, experiment: str = "depth_batch") -> Claim:
    return Claim(
        experiment=experiment,
        topic="Growth",
        claim=name,
        sentence=f"{name}, in full.",
        verdict=verdict,
        number=f"number of {name}",
        measured=f"What was measured of {name}.",
    )


def _claims(*verdicts: str) -> Claims:
    return Claims(
        question="Does it grow?",
        answer=["Yes for what is kept: 12 bytes.", "No for the peak: 3 of 4 cells."],
        lead="depth_batch",
        claims=[_claim(f"claim {at}", verdict) for at, verdict in enumerate(verdicts)],
    )


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_run_ends_in_its_answer_its_counts_and_the_next_command(
    tmp_path: Path, narrow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    here, reference = tmp_path / "here", tmp_path / "reference"
    for folder, verdicts in (
        (here, ("holds", "holds within limits", "fails", "open")),
        (reference, ("holds", "holds", "fails", "holds")),
    ):
        folder.mkdir()
        write_claims(_claims(*verdicts), folder)
    print_summary(here, here / "report.html", reference)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Does it grow?"
    assert lines[1] == "Yes for what is kept. No for the peak."
    assert [line.split()[:2] for line in lines[2:6]] == [["claim", f"{at}"] for at in range(4)]
    text = "\n".join(lines[6:])
    assert "4 claims: 1 holds, 1 holds within limits, 1 fails, 1 open" in text
    assert "  fails: claim 2 (number of claim 2)" in text
    assert "  open: claim 3 (What was measured of claim 3.)" in text
    assert "As in the reference run: 2 of 4" in text
    assert "  claim 1: holds within limits here, holds there (number of claim 1)" in text
    assert f"harness verdicts {here}" in text.replace("\n", "")
    assert len(lines) <= 16
    assert max(map(len, lines[:-2])) <= 80


def test_long_claims_are_cut_to_the_terminals_width(
    tmp_path: Path, narrow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    long = _claim("a claim of many words " * 9, "fails")
    write_claims(Claims(question="?", answer=[], lead="depth_batch", claims=[long]), tmp_path)
    print_summary(tmp_path, tmp_path / "report.html", tmp_path / "none")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-2])) <= 80
    assert any(line.startswith("  fails: ") and line.endswith("…") for line in lines)


def test_without_a_reference_run_nothing_is_compared(
    tmp_path: Path, narrow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_claims(_claims("holds"), tmp_path)
    for reference in (tmp_path, tmp_path / "none"):
        print_summary(tmp_path, tmp_path / "report.html", reference)
        assert "reference run" not in capsys.readouterr().out


def test_verdicts_prints_every_claim_of_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.write(tmp_path / "depth_batch", planted.grid((1, 2, 4), (16, 64, 256)))
    write_report(tmp_path)
    kept = read_claims(tmp_path)
    assert kept.lead == "depth_batch"
    assert len(kept.claims) >= 3
    assert main(["verdicts", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for one in kept.claims:
        assert f"{one.verdict}: {one.sentence}" in said
        assert " ".join(f"{one.measured} ({one.number})".split()) in said


def test_a_folder_without_a_report_says_how_to_write_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verdicts", str(tmp_path)]) == 2
    assert f"harness report {tmp_path}" in capsys.readouterr().err
    (tmp_path / "claims.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ClaimsError, match=r"claims\.json"):
        print_claims(tmp_path)


def test_piped_an_experiment_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = progress.Lines(3)
    lines.begin("first", cells=2, done=0, notes=["repaired: a line"])
    lines.cell("one", left=1, seconds_left=None)
    lines.cell("two", left=0, seconds_left=0.0)
    lines.begin("second", cells=5, done=5, notes=[])
    lines.begin("third", cells=5, done=1, notes=[])
    lines.end()  # interrupted
    printed = capsys.readouterr().err.splitlines()
    assert printed == [
        "repaired: a line",
        "[1/3] first: 2 cells, 0 s",
        "[2/3] second: 5 cells, 5 saved already, 0 s",
        "[3/3] third: 5 cells, 1 saved already, 0 s",
    ]


def test_at_80_columns_the_counts_and_the_time_left_stay() -> None:
    written = io.StringIO()
    console = PlainConsole(file=written, width=80, force_terminal=True, color_system=None)
    bar = progress._bar(console)
    shown = progress.Terminal(bar, 11)
    shown.begin("training_vs_inference", cells=1260, done=0, notes=[])
    shown.cell("mlp 4 x 256, batch 64, train, sgd: ok, peak 3.186 MiB", left=37, seconds_left=754.0)
    plain = Console(file=io.StringIO(), width=80)
    with plain.capture() as captured:
        plain.print(bar.get_renderable())
    (line,) = captured.get().splitlines()
    assert "1/11 training_vs_inference" in line
    assert "1223/1260" in line
    assert "12 min 34 s left" in line
    assert len(line) <= 80


def test_processes_give_the_same_results_in_the_same_order() -> None:
    told: list[tuple[int, int]] = []
    alone = run_each(abs, [-3, -1, -2])
    assert alone == [3, 1, 2]
    if sys.version_info < (3, 12):  # later ones warn where the process that forks has threads
        several = run_each(abs, [-3, -1, -2], jobs=2, told=lambda *at: told.append(at))
        assert several == alone
        assert told == [(1, 3), (2, 3), (3, 3)]
        assert set(run_each(_process, [0, 1, 2, 3], jobs=2)).isdisjoint({os.getpid()})


def _process(_: int) -> int:
    return os.getpid()

"""The end of a run on a terminal, its claims file, and the progress of a sweep."""

import io
import json
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from harness.reporting import progress
from harness.reporting.claims import CLAIMS, ClaimEntry, Claims, claims_json, read_claims
from harness.reporting.report import run_each
from harness.reporting.summary import print_summary
from harness.reporting.terminal_console import PlainConsole
from harness.schema.findings import Verdict
from tests.commands import Ask


def _claims(*verdicts: str) -> Claims:
    claims = [
        ClaimEntry(
            experiment="depth_batch", topic="Growth", claim=name, sentence=f"{name}, in full.",
            verdict=Verdict(verdict), number=f"number of {name}",
            measured=f"What was measured of {name}.",
            open_reason="2 blocks would decide" if verdict == "open" else "",
        )
        for name, verdict in ((f"claim {at}", verdict) for at, verdict in enumerate(verdicts))
    ]  # fmt: skip
    answer = ["Yes for what is kept: 12 bytes.", "No for the peak: 3 of 4 cells."]
    return Claims(question="Does it grow?", answer=answer, lead="depth_batch", claims=claims)


def written(claims: Claims, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / CLAIMS).write_bytes(claims_json(claims))
    return str(folder)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_run_ends_in_its_answer_its_counts_and_the_next_command(
    tmp_path: Path, narrow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    here, reference = tmp_path / "here", tmp_path / "reference"
    written(_claims("holds", "holds in part", "fails", "open"), here)
    written(_claims("holds", "holds", "fails", "holds"), reference)
    print_summary(here, here / "report.html", reference)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Does it grow?"
    assert lines[1] == "Yes for what is kept. No for the peak."
    assert [line.split()[:2] for line in lines[2:6]] == [["claim", f"{at}"] for at in range(4)]
    text = "\n".join(lines[6:])
    assert "4 claims: 1 holds, 1 holds in part, 1 fails, 1 open" in text
    assert "  open: claim 3 (2 blocks would decide)" in text
    assert "2 of 4 verdicts are the same as in the reference run" in text
    assert "claim 1: holds in part here, holds there" in text
    assert "claim 3: open (2 blocks would decide) here, holds there" in " ".join(text.split())
    assert f"All verdicts: {here / 'report.md'}" in text.replace("\n", "")
    assert len(lines) <= 14
    assert max(map(len, lines[:-2])) <= 80
    for other in (here, tmp_path / "none"):
        print_summary(here, here / "report.html", other)
        assert "reference run" not in capsys.readouterr().out


def test_two_runs_stand_side_by_side(tmp_path: Path, narrow: None, ask: Ask) -> None:
    verdicts = (("holds", "open"), ("holds", "fails"))
    folders = [written(_claims(*each), tmp_path / f"{at}") for at, each in enumerate(verdicts)]

    def rows(code: int) -> list[str]:
        said = ask(["report", folders[1], "--against", folders[0]], code).out
        return [" ".join(line.split()) for line in said.splitlines()]

    shown = rows(0)
    assert {"claim 0 holds holds", "claim 1 open fails"} <= {*shown}
    assert shown[-1] == "2 claims: 1 alike in all runs, 1 alike or open, 0 contradicted"
    written(_claims("fails", "fails", "holds"), tmp_path / "1")
    shown = rows(3)
    assert {"claim 0 holds fails contradicted", "claim 2 - holds"} <= {*shown}
    assert "1 contradicted, 1 not in every run" in shown[-1]
    answer = json.loads(ask(["report", folders[1], "--against", folders[0], "--json"], 3).out)
    assert (answer["verdict"], answer["verdicts_agree"]) == ("different", False)


@pytest.mark.parametrize("first", [_claims(), _claims("holds", "open")])
def test_runs_without_a_claim_in_common_agree_in_nothing(
    first: Claims, tmp_path: Path, narrow: None, ask: Ask
) -> None:
    renamed = [msgspec.structs.replace(one, sentence=f"{one.sentence}!") for one in first.claims]
    second = msgspec.structs.replace(first, claims=renamed or _claims("holds").claims)
    folders = [written(first, tmp_path / "first"), written(second, tmp_path / "second")]
    lines = ask(["report", folders[1], "--against", folders[0]], 3).out.splitlines()
    assert " 0 alike in all runs" in lines[-2]
    assert lines[-1] == "The runs have no claim in common: nothing is compared."


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        ('"banana"', "banana"),
        ('"holds", "verdict": "fails"', "verdict: given twice"),
        ("null", "Expected"),
    ],
)
def test_a_verdict_that_is_none_is_refused_in_one_line(
    verdict: str, why: str, tmp_path: Path, ask: Ask
) -> None:
    written(_claims("holds"), tmp_path)
    path = tmp_path / CLAIMS
    path.write_text(path.read_text().replace('"holds"', verdict))
    (said,) = ask(["report", str(tmp_path), "--against", str(tmp_path)], 2).err.splitlines()
    assert why in said


def test_the_report_prints_every_claim_in_a_line(small_run: Path, ask: Ask) -> None:
    head, *lines, page = ask(["report", str(small_run)]).out.splitlines()
    kept = read_claims(small_run)
    assert kept.lead == "depth_batch"
    assert len(lines) == len(kept.claims) >= 3
    assert head.startswith(f"{len(lines)} claims")
    for one, line in zip(kept.claims, lines, strict=True):
        assert f"{one.claim}: {one.number}" in line
    assert page == str(small_run / "report.html")


def test_piped_an_experiment_is_two_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
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
        "[1/3] first: 2 cells",
        "[1/3] first: 0 s",
        "[2/3] second: 5 cells, 5 saved already",
        "[2/3] second: 0 s",
        "[3/3] third: 5 cells, 1 saved already",
        "[3/3] third: 0 s",
    ]


def test_at_80_columns_the_counts_and_the_time_left_stay() -> None:
    written = io.StringIO()
    console = PlainConsole(file=written, width=80, force_terminal=True, color_system=None)
    bar = progress._bar(console)
    shown = progress.Terminal(bar, 11)
    shown.begin("training_vs_inference", cells=1260, done=0, notes=[])
    assert bar.tasks[0].fields["cell"] == "starting workers"
    shown.cell("mlp 4 x 256, batch 64, train, sgd: ok, peak 3.186 MiB", left=37, seconds_left=754.0)
    plain = Console(file=io.StringIO(), width=80)
    with plain.capture() as captured:
        plain.print(bar.get_renderable())
    (line,) = captured.get().splitlines()
    assert "1/11 training_vs_inference" in line
    assert "1223/1260" in line
    assert "12 min 34 s left" in line
    assert len(line) <= 80
    shown.cell("mlp 4 x 256, batch 64, train, adam: ok, peak 4 MiB", left=36, seconds_left=None)
    seen = "adam, mlp 4 x 256, batch 64, train: ok, peak 4 MiB"  # the new value first
    assert bar.tasks[0].fields["cell"] == seen


def test_processes_give_the_same_results_in_the_same_order() -> None:
    alone = run_each(abs, [-3, -1, -2])
    assert alone == [3, 1, 2]
    if sys.version_info < (3, 12):  # later ones warn where the process that forks has threads
        assert run_each(abs, [-3, -1, -2], jobs=2) == alone

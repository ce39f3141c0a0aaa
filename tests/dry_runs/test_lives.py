"""A script that saves is started again with what it wrote, and both starts are compared."""

from pathlib import Path

import pytest

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_text import dry_run_text
from harness.dry_runs.run import dry_run
from harness.dry_runs.value_answers import DryRunError
from tests.dry_runs.scripts import script

pytestmark = pytest.mark.usefixtures("cuda_build")

WIDTH, DEPTH = 1024, 6
WEIGHTS = 4 * DEPTH * (WIDTH + 1) * WIDTH
"""Bytes of the model's parameters; AdamW's two states take twice as many."""
OUTSIDE = 300 << 20
TRAIN = f"""
import os, sys, torch
from torch import nn
model = nn.Sequential(*[nn.Linear({WIDTH}, {WIDTH}) for _ in range({DEPTH})]).cuda()
optimizer = torch.optim.AdamW(model.parameters())
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "last.pt")
if os.path.exists(FILE) and "anew" not in sys.argv:
    last = torch.load(FILE, map_location="cuda")
    model.load_state_dict(last["model"])
    optimizer.load_state_dict(last["optimizer"])
    if "free" in sys.argv: del last
for _ in range(3):
    model(torch.ones(4, {WIDTH}, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
if "forget" not in sys.argv:
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, FILE)
"""
LINE = TRAIN[: TRAIN.index("last = torch.load")].count("\n") + 1


def lives(folder: Path, *again: str, memory_bytes: int | None = None) -> DryRunReport:
    return dry_run(
        script(folder, TRAIN),
        gpu="l4",
        memory_bytes=memory_bytes,
        outside_bytes=OUTSIDE,
        resume=again,
        quiet=True,
    )


def requested(report: DryRunReport) -> int:
    return report.cuda.requested_peak_bytes or 0


@pytest.mark.slow
def test_the_copy_that_a_resumed_script_keeps_is_found_to_the_byte(tmp_path: Path) -> None:
    report = lives(tmp_path)
    first, second = report.starts
    assert (first.outcome, second.outcome, report.outcome) == ("ok", "ok", "ok")
    alive = dict(second.devices[0].peak.categories) if second.devices[0].peak else {}
    assert requested(second) - requested(first) == pytest.approx(WEIGHTS, abs=4096)
    assert alive["optimizer_state"] == pytest.approx(2 * WEIGHTS, abs=4096)  # the loaded one
    text = dry_run_text(report, target="train.py")
    assert text.splitlines()[1].endswith("ok, fits, the worse when resumed")
    assert f"other           {tmp_path / 'script.py'}:{LINE} <module>" in text
    assert second.devices[0].phases["loading"] >= 4 * WEIGHTS  # the model and the whole file
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.slow
def test_a_resumed_script_that_frees_the_copy_needs_no_more(tmp_path: Path) -> None:
    first, second = lives(tmp_path, "free").starts
    assert requested(second) == pytest.approx(requested(first), abs=4096)


@pytest.mark.slow
def test_memory_that_ends_only_when_resumed_is_the_answer(tmp_path: Path) -> None:
    least, most = (one.cuda.reserved_peak_bytes or 0 for one in lives(tmp_path).starts)
    report = lives(tmp_path, memory_bytes=OUTSIDE + (least + most) // 2)
    assert [one.outcome for one in report.starts] == ["ok", "oom"]
    assert (report.outcome, report.worse_start) == ("oom", "when resumed")


@pytest.mark.slow
def test_a_script_that_does_not_resume_has_no_answer(tmp_path: Path) -> None:
    report = lives(tmp_path, "anew")
    assert report.outcome == "unsupported"
    assert "it was not resumed" in (report.evidence or "")


def test_without_a_file_nothing_can_be_resumed(tmp_path: Path) -> None:
    report = dry_run(script(tmp_path, TRAIN), "forget", gpu="l4", resume=True, quiet=True)
    assert report.outcome == "unsupported"
    assert "wrote no file" in (report.evidence or "")
    with pytest.raises(DryRunError, match="the layer of files"):
        dry_run(script(tmp_path, TRAIN), gpu="l4", resume=True, write_files=True)
    with pytest.raises(DryRunError, match="a script or a module"):
        dry_run(len, [], gpu="l4", resume=True)

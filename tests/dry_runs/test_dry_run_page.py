"""The page of a script: the timeline of its last step, by module."""

import json
import re
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.schema.block_categories import CATEGORY_WORDS
from harness.snapshots.explain import explain_file
from tests.cli.test_pages import NET
from tests.dry_runs.scripts import succeeds
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")

SCRIPT = """
import torch
from net import Net

model = Net().cuda()
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(3):
    optimizer.zero_grad()
    model(torch.ones(32, 8).cuda()).sum().backward()
    optimizer.step()
"""


def test_the_page_of_a_script_shows_its_last_step_by_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "train.py").write_text(SCRIPT)
    command = ["dry-run", "--gpu", "l4", "--html", "page.html", "--", "train.py", "--batch", "32"]
    assert main(command) == 0
    page = (tmp_path / "page.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    line = json.loads(found[1])["timeline"]
    assert [name for name, _ in line["phases"]][:2] == ["forward", "backward"]
    assert "Net:11 > Sequential > Linear" in line["layers"]
    assert line["reserved"] == [line["reserved"][0]] * line["moments"]
    assert line["limits"] == [["room for PyTorch on l4", 22_778_478_592]]
    assert "harness dry-run --gpu l4 --largest batch -- train.py --batch" in page


def test_a_recording_that_cannot_be_read_costs_the_page_its_timeline_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.snapshots.file_bytes.LONGEST_BYTES", 10)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "train.py").write_text(SCRIPT)
    assert main(["dry-run", "--gpu", "l4", "--html", "page.html", "--", "train.py"]) == 0
    assert "the page has no timeline" in capfd.readouterr().err
    assert "Alive then" in (tmp_path / "page.html").read_text()


ADVERSARIES = """
import torch
from torch import nn

frozen = nn.Linear(64, 64).cuda().requires_grad_(False)
normed = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64)).cuda()
other = nn.Linear(64, 64).cuda()
optimizers = [torch.optim.Adam(one.parameters(), foreach=False) for one in (normed, other)]
for _ in range(4):
    for optimizer in optimizers:
        optimizer.zero_grad()
        other(frozen(normed(torch.ones(512, 64).cuda()))).sum().backward()
        optimizer.step()
"""


def test_a_recording_is_explained_as_the_report_says(tmp_path: Path) -> None:
    """Both say who owns what at the peak, also what no optimizer owns."""
    report = succeeds(tmp_path, ADVERSARIES, snapshot=tmp_path / "recording.pickle")
    peak = known(report.devices[0].peak)
    assert peak.categories["buffer"] == 2 * 4 * 64 + 8
    assert peak.categories["parameter"] == 4 * (3 * 64 * 65 + 2 * 64)
    (explanation,) = explain_file(tmp_path / "recording.pickle")
    (moment,) = explanation.moments
    assert dict(moment.categories) == {
        CATEGORY_WORDS[name]: size for name, size in peak.categories.items()
    }

"""``--html FILE`` of every command that has it: one style, one colour for a category."""

import re
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.dry_runs.dry_run_report import Device, DryRunReport, Moment, PlaceGroup
from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.memory_page import sheet_page
from harness.prediction.gpu.catalogue import GPUS
from harness.schema.metrics import CudaPeaks
from harness.schema.record import Outcome
from tests.commands import Ask

NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        return self.layers(x)
"""


@pytest.fixture
def folder(here: Path) -> Path:
    (here / "net.py").write_text(NET)
    return here


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("predict --depth 2 --batch 8 --budget 1GiB", "fits: needs"),
        ("predict --depth 2 --batch 8 --gpu l4", "fits on l4"),
        ("predict net.py:Net --input 8 --gpu l4 --method estimate", "fits on l4"),
        ("predict net.py:Net --input 8", "layers.0"),
    ],
)
def test_a_step_has_a_page(command: str, words: str, folder: Path) -> None:
    assert main([*command.split(), "--html", "page.html"]) == 0
    page = (folder / "page.html").read_text()
    assert words in page.replace("<wbr>", "")
    assert "--paper" in page
    assert CATEGORY_COLOURS["parameter"].lower() in page.lower()
    for forbidden in ("src=", "@import", "http:", "https:"):
        assert forbidden not in page.replace("http://www.w3.org/", "")


def test_a_table_of_gpus_is_a_page_too(
    folder: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: GPUS[name] for name in ("h100-80gb", "t4")}
    monkeypatch.setattr("harness.planning.predict_step.USUAL", some)
    command = ["predict", "mlp:2x8", "--batch", "4", "--gpu", "all", "--html", "page.html"]
    lines = ask(command).out.splitlines()
    assert "fits on 2 of 2 GPUs; the smallest is t4" in lines[0]
    page = (folder / "page.html").read_text()
    assert lines[0] in page
    assert [name in page for name in some] == [True, True]


def test_a_dry_run_has_a_page_whose_categories_add_up() -> None:
    place = "<train>.py:9 step"
    group = PlaceGroup(place=place, category="activation", requested_bytes=3 << 20, blocks=2)
    moment = Moment(
        requested_bytes=4 << 20, allocation=7, seconds=0.1, step=1, stack=(),
        categories={"activation": 3 << 20, "parameter": 1 << 20}, groups=(group,),
    )  # fmt: skip
    peaks = CudaPeaks(requested_peak_bytes=4 << 20, reserved_peak_bytes=20 << 20)
    report = DryRunReport(
        outcome=Outcome.OK, gpu="l4", gpu_total_bytes=100 << 20, cuda=peaks,
        outside_bytes=(10 << 20, 30 << 20), devices=(Device(index=0, peaks=peaks, peak=moment),),
    )  # fmt: skip
    page = sheet_page(dry_run_sheet(report, "train.py"))
    assert "&lt;train&gt;" in page
    assert "<train>" not in page
    assert "Most bytes requested: 4 MiB" in page
    sizes = re.findall(r">(\d) MiB</td>", page.partition("Alive then")[2])
    assert sizes == ["3", "1", "3"], "the categories, and the one place"

"""Input that makes no sense: one clear line, with the line of the user's own code."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import harness
from harness.schema.errors import HarnessError
from tests.commands import Ask

WIDTH = 16


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": True}, "batch must be"),
        ({"batch": None}, "needs the batch of a network"),
        ({"device": "gpu"}, "device must be cpu or cuda, got 'gpu'"),
        ({"device": "cpu", "gpu": "l4"}, "device must be cuda"),
        ({"inputs": 3}, "inputs must be shapes"),
        ({"target": lambda: None, "gpu": "l4"}, "must return a torch.nn.Module, got a NoneType"),
        ({"largest": True, "device": "cuda"}, "largest needs a GPU"),
        ({"method": "guess"}, "method must be one of auto, dry-run, estimate"),
        ({"loss": "l1"}, "loss must be one of"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(change: dict[str, Any], message: str) -> None:
    request = {"batch": 2, "inputs": (WIDTH,), "target": build, **change}
    with pytest.raises(HarnessError, match=message) as caught:
        harness.predict(request.pop("target"), request.pop("batch"), **request)
    assert "\n" not in str(caught.value)


NETWORK = """
import sys
from torch import nn
class Net(nn.Sequential):
    def __init__(self, hidden=4): super().__init__(nn.Linear(16, hidden))
def masked():
    class Masked(Net):
        def forward(self, x):
            return x.foo()
    return Masked()
def words():
    return nn.Embedding(4, 4)
def none(parameters):
    return 3
def ended():
    sys.exit()
"""


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("Net --accumulate 0", 2, "accumulate must be"),
        ("Net --device cuda:0", 2, "--device must be one of cpu, cuda"),
        ("Net --input 9 --gpu l4", 2, "the step fails: RuntimeError"),
        ("masked --gpu l4", 2, "has no attribute 'foo' (wrong_input.py:"),
        ("Net --optimizer wrong_input.py:none", 2, "must return a torch.optim.Optimizer"),
        ("words --input 16", 2, "give tokens as integers: --input [NAME=]int64:SHAPE"),
        (
            "ended --gpu l4",
            2,
            "may neither end the process nor parse the command line",
        ),
        ("Net --check", 2, "--check needs --gpu of known memory"),
        ("Net --check --gpu t4 --batch 1000000000", 3, "does not fit"),
        ("Net --check --gpu t4", 0, "fits on t4"),
    ],
)
def test_the_command_says_it_in_one_line(
    flags: str, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    (tmp_path / "wrong_input.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    name, *others = flags.split()
    shape = [] if "--input" in others else ["--input", "16"]
    said = ask(["predict", f"wrong_input.py:{name}", *shape, *others], code)
    assert message in (said.out if code in (0, 3) else said.err)
    assert code != 2 or len((said.out + said.err).strip().splitlines()) == 1


@pytest.mark.usefixtures("cuda_build")
def test_a_misspelt_setting_is_pytorch_s_own_error(tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "wrong_input.py").write_text(NETWORK)
    target = f"{tmp_path / 'wrong_input.py'}:Net"
    setting = ["--gpu", "l4", "--alloc-conf", "expandible_segments:True"]
    said = ask(["predict", target, "--input", "16", *setting], 2)
    assert "there is no 'expandible_segments'" in said.err
    wrong = ask(["predict", target, "--input", "16", *setting[:3], "max_split_size=32"], 2)
    assert "no 'max_split_size=32'; write NAME:VALUE" in wrong.err


class TwoIn(nn.Linear):
    """A network whose class names it."""


def test_a_network_is_called_by_its_class_and_its_frame_begins_with_what_is_known() -> None:
    report = harness.predict(TwoIn(4, 4), 4, inputs=(4,), loss="sum")
    assert str(report.subject) == "TwoIn, batch 4"
    frame = report.to_frame()
    known = [not frame[name].isna().all() for name in frame.columns]
    assert known == sorted(known, reverse=True)

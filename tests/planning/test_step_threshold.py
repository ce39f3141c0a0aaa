"""``harness threshold TARGET``: the largest batch of any network, seen on both sides."""

import json
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.schema.record import Outcome
from tests.commands import Ask
from tests.limits_here import needs_refusal

MODULE = """
import os, torch
from torch import nn
def build():
    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
def normalized(width=64):
    return nn.Sequential(nn.Linear(784, width), nn.BatchNorm1d(width), nn.Linear(width, 10))
class Reads(nn.Linear):
    def __init__(self):
        super().__init__(8, 8)
    def forward(self, x):
        y = super().forward(x)
        return y + 1 if y.sum() > 0 else torch.cat([y, y])[: len(x)]
class Kills(nn.Linear):
    def __init__(self):
        super().__init__(8, 8)
    def forward(self, x):
        os.kill(os.getpid(), 9)
class Wrong(nn.Linear):
    def __init__(self):
        super().__init__(8, 8)
    def forward(self, x):
        return super().forward(x).view(-1, 7)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def found(ask: Ask, line: str, code: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(ask(["threshold", *line.split(), "--json"], code).out)
    return answer


def ends(answer: dict[str, Any], value: int) -> list[str]:
    return [one["outcome"] for one in answer["probes"] if one["value"] == value]


@pytest.mark.slow
@pytest.mark.exact
def test_a_network_of_ones_own_has_the_threshold_of_the_same_mlp(folder: Path, ask: Ask) -> None:
    needs_refusal()
    own = found(ask, "mine:build --input 784 --budget 24MiB")
    mlp = harness.threshold(harness.Workload(depth=2), budget_bytes=24 << 20)
    assert (own["largest_fit"], own["smallest_fail"]) == (mlp.largest_fit, mlp.smallest_fail)
    assert ends(own, own["largest_fit"]) == ["ok"] * 3
    assert ends(own, own["smallest_fail"]) == ["oom"] * 3


@pytest.mark.usefixtures("dry_run_here")
def test_a_pretended_gpu_runs_out_of_memory_right_above_the_predicted_batch(
    folder: Path, ask: Ask
) -> None:
    answer = found(ask, "mine:build --input 784 --gpu t4 --budget 100MiB --accumulate 3")
    assert answer["largest_fit"] == answer["predicted"]
    assert answer["smallest_fail"] == answer["largest_fit"] + 3
    assert ends(answer, answer["smallest_fail"]) == ["oom"] * 3
    assert {one["type"] for one in answer["probes"]} == {None, "OutOfMemoryError"}
    fitting = [one["needed_bytes"] for one in answer["probes"] if one["outcome"] == "ok"]
    assert 95 << 20 < max(fitting) <= 100 << 20


def test_what_refuses_one_example_is_searched_from_two_on(folder: Path) -> None:
    needs_refusal()
    found = harness.threshold(
        "mine.py:normalized", inputs="784", arguments={"width": 1200}, budget_bytes=5 << 20
    )
    assert (found.outcome, found.largest_fit, found.smallest_fail) == (Outcome.OK, None, 2)
    assert "batch normalization" in found.notes[-1]
    assert {one.value for one in found.probes} >= {2, 32}


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("mine:build --input 784", 2, "a budget must be given for device cpu"),
        ("mine:build --input 784 --budget 1MiB", 2, "budget must be at least 4.094 MiB for 6 mod"),
        ("mine:build --input 784 --batch 3 --gpu l4", 2, "--batch is the value to find"),
        ("mine:build --input 784 --solve depth --gpu l4", 2, "--solve depth is for an MLP"),
        ("mine:build --input 784 --budget 9MiB --kind cgroup", 2, "a cgroup is the budget of an"),
        ("mine:build --input 784 --budget 64GiB --gpu t4", 2, "at most 13.81 GiB on t4, got 64"),
        ("mine:build --input 784 --gpu t4 --compile", 3, "each one would be compiled anew"),
        ("mine:Wrong --input 8 --budget 9MiB", 2, "invalid for input of size 256 (mine.py:25"),
    ],
)  # fmt: skip
def test_a_mistake_ends_in_one_line(
    folder: Path, ask: Ask, line: str, code: int, said: str
) -> None:
    answer = ask(["threshold", *line.split()], code)
    assert said in answer.out + answer.err
    assert len((answer.out + answer.err).strip().splitlines()) == 1


def test_a_step_that_kills_its_process_is_an_answer_with_its_evidence(
    folder: Path, ask: Ask
) -> None:
    needs_refusal()
    answer = found(ask, "mine:Kills --input 8 --budget 9MiB", 3)
    assert (answer["outcome"], answer["largest_fit"]) == ("killed", None)
    assert answer["evidence"]["signal"] == "SIGKILL"
    assert ends(answer, 32) == ["killed"] * 2


@pytest.mark.usefixtures("dry_run_here")
def test_a_batch_that_hangs_on_an_unknown_value_is_refused(folder: Path, ask: Ask) -> None:
    said = ask(["threshold", "mine:Reads", "--input", "8", "--gpu", "t4"], 3).out
    assert "depends on values that nobody knows, at" in said
    assert "mine.py:15" in said

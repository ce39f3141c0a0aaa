import contextlib
import io
import json
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from harness.cli.app import main

MODULE = """
import torch
from torch import nn
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
class Broken(nn.Module):
    def forward(self, x):
        raise RuntimeError("a fault of its own")
class Huge(nn.Module):
    def forward(self, x):
        return torch.empty(1 << 60, dtype=torch.uint8)
number = 3
def nothing():
    return None
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = main(["profile", *arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.mark.exact
def test_the_metrics_are_the_closed_forms_and_every_export_is_written(folder: Path) -> None:
    done = run(
        folder, "mine:build", "--input", "3x4", "--batch", "7", "--json", "--events", "e.csv",
        "--chrome", "c.json", "--snapshot", "s.pickle", "--timeline", "t.svg",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    profile = json.loads(done.stdout)
    assert profile["saved_bytes"] == 7 * (4 * 12 + 8 + 4 * 20 + 4 * 5) + 4
    assert profile["categories_at_peak"]["parameter"] == 4 * (12 * 20 + 20 + 20 * 5 + 5)
    assert sum(profile["modules_at_peak"].values()) == profile["peak_live_bytes"]
    assert sum(profile["operators_at_peak"].values()) == profile["peak_live_bytes"]
    layers = profile["layers"]
    assert [layer["kind"] for layer in layers] == [
        "Sequential",
        "Flatten",
        "Linear",
        "ReLU",
        "Linear",
    ]
    assert [layer["name"] for layer in layers] == ["", "0", "1", "2", "3"]
    assert [layer["output_bytes"] for layer in layers] == [4 * 7 * n for n in (5, 12, 20, 20, 5)]
    assert sum(layer["saved_bytes"] for layer in layers) == profile["saved_bytes"]
    assert sum(layer["peak_bytes"] for layer in layers) == profile["peak_live_bytes"]
    parameters = sum(layer["parameter_bytes"] for layer in layers)
    assert parameters == profile["categories_at_peak"]["parameter"]
    for name in ("e.csv", "c.json", "s.pickle", "t.svg"):
        assert (folder / name).stat().st_size > 100


def test_the_table_names_what_was_alive(folder: Path) -> None:
    done = run(folder, "mine:build", "--input", "12", "--optimizer", "adam")
    assert done.returncode == 0
    assert done.stdout.startswith("peak ")  # the answer comes first
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    start = rows.index(["layer", "parameters"])
    assert [row[0] for row in rows[start + 1 : start + 5]] == ["(network)", "1", "2", "3"]
    for words in ("saved for backward", "module, at the peak", "aten::", "temporary"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine"], ["mine", "MODULE:CALLABLE"]),
        (["absent:build"], ["no module 'absent'"]),
        (["mine:absent"], ["mine has no 'absent'"]),
        (["mine:number"], ["int cannot be called"]),
        (["mine:nothing", "--input", "3"], ["NoneType"]),
        (["mine:build", "--input", "3xq"], ["3xq", "3x224x224"]),
        (["mine:build", "--input", "99"], ["the step fails", "32x99"]),
        (["mine:build", "--optimizer", "sdg"], ["optimizer", "sdg", "momentum"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    folder: Path, arguments: list[str], words: list[str]
) -> None:
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for word in words:
        assert word in done.stderr


def test_a_step_that_runs_out_of_memory_is_an_outcome(folder: Path) -> None:
    done = run(folder, "mine:Huge", "--input", "4", "--optimizer", "none", "--json")
    assert done.returncode == 3
    profile = json.loads(done.stdout)
    assert profile["outcome"] == "oom"
    assert profile["evidence"]["phase"] == "forward"


def test_an_error_of_the_module_is_the_users_with_its_line(folder: Path) -> None:
    done = run(folder, "mine:Broken", "--input", "4", "--optimizer", "none")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "a fault of its own (mine.py:8 in forward)" in done.stderr


def test_a_network_of_two_inputs_is_profiled(folder: Path) -> None:
    two = "\nclass Two(nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
    two += "        self.e, self.l = nn.Embedding(9, width), nn.Linear(width + 2, 3)\n"
    two += "    def forward(self, tokens, meta):\n"
    two += "        return self.l(torch.cat([self.e(tokens).mean(1), meta], 1))\n"
    (folder / "two.py").write_text(MODULE + two)
    flags = ["--input", "tokens=int64:5", "--input", "meta=2", "--arg", "width=4", "--batch", "3"]
    done = run(folder, "two.py:Two", *flags, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["saved_input_bytes"] == 8 * 3 * 5 + 8 * 3

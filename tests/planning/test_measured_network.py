"""``harness measure TARGET``: the metrics of a step that runs, the host's memory, exports."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Ask

MODULE = """
import torch
from torch import nn
from tests.own_pss import own_pss_bytes
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
class Huge(nn.Module):
    def forward(self, x):
        return torch.empty(1 << 60, dtype=torch.uint8)
class Held(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 2)
        self.kept = torch.empty(5 << 20, dtype=torch.uint8)
        self.pinned = self.kept.pin_memory() if torch.cuda.is_available() else None
    def forward(self, x):
        block = torch.ones(64 << 20, dtype=torch.uint8)
        with open("seen", "w") as file:
            file.write(str(own_pss_bytes()))
        return super().forward(x)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


def profiled(ask: Ask, line: str, code: int = 0) -> dict[str, Any]:
    profile: dict[str, Any] = json.loads(ask(["measure", *line.split(), "--json"], code).out)
    return profile


@pytest.mark.exact
def test_the_metrics_are_the_closed_forms_and_every_export_is_written(
    folder: Path, ask: Ask
) -> None:
    profile = profiled(ask, "mine:build --input 3x4 --batch 7 --events e.csv --html t.html")
    assert profile["saved_bytes"] == 7 * (4 * 12 + 8 + 4 * 20 + 4 * 5) + 4
    assert profile["categories_at_peak"]["parameter"] == 4 * (12 * 20 + 20 + 20 * 5 + 5)
    assert sum(profile["modules_at_peak"].values()) == profile["peak_live_bytes"]
    assert sum(profile["operators_at_peak"].values()) == profile["peak_live_bytes"]
    layers = profile["layers"]
    kinds = [(layer["name"], layer["kind"]) for layer in layers]
    assert kinds[:3] == [("", "Sequential"), ("0", "Flatten"), ("1", "Linear")]
    assert kinds[3:] == [("2", "ReLU"), ("3", "Linear")]
    assert [layer["output_bytes"] for layer in layers] == [4 * 7 * n for n in (5, 12, 20, 20, 5)]
    assert sum(layer["saved_bytes"] for layer in layers) == profile["saved_bytes"]
    assert sum(layer["peak_bytes"] for layer in layers) == profile["peak_live_bytes"]
    parameters = sum(layer["parameter_bytes"] for layer in layers)
    assert parameters == profile["categories_at_peak"]["parameter"]
    for name in ("e.csv", "t.html"):
        assert (folder / name).stat().st_size > 100
    assert 'id="timeline"' in (folder / "t.html").read_text()


@pytest.mark.slow
def test_the_host_is_what_psutil_reads_at_the_peak_of_the_step(folder: Path, ask: Ask) -> None:
    host = profiled(ask, "mine.py:Held --input 8")["host"]
    seen = int((folder / "seen").read_text())
    assert abs(host["peak_bytes"][0] - seen) < 2 << 20
    assert host["processes"][0]["own_bytes"] > 64 << 20
    assert (host["pinned_bytes"], host["harness_bytes"]) == (None, None)
    assert "Memory of the host: " in ask(["measure", "mine.py:Held", "--input", "8"]).out


@pytest.mark.usefixtures("dry_run_here", "folder")
def test_pinned_memory_is_what_pytorchs_host_allocator_counts(ask: Ask) -> None:
    host = profiled(ask, "mine.py:Held --input 8 --gpu l4")["host"]
    assert host["pinned_bytes"] == [8 << 20, 8 << 20]  # a power of two


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_step_that_runs_out_of_memory_is_an_outcome(ask: Ask) -> None:
    profile = profiled(ask, "mine:Huge --input 4 --optimizer none", 3)
    assert profile["outcome"] == "oom"
    assert profile["evidence"]["phase"] == "forward"

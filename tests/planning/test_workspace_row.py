"""cuBLAS workspaces at the peak have a row of their own, and the rows still add up to the peak."""

import json
from pathlib import Path

import pytest

from harness.planning.workspace_row import NAME, moved
from harness.prediction.versions import WORKSPACES_FREED
from harness.schema.events import Event, Trace
from harness.schema.metrics import CudaMetrics, Layer
from harness.schema.step_report import StepReport
from tests.child_process import harness
from tests.commands import Ask

MM, SIZE, KEPT = (
    "autograd::engine::evaluate_function: AddmmBackward0/AddmmBackward0/aten::mm",
    1000,
    700,
)


def reported(*events: Event) -> StepReport:
    trace = Trace(events)
    sizes = {"0": 0, "1": 0}
    for block in trace.alive_at_peak():
        sizes[block.event.module] += block.event.size_bytes
    layers = tuple(
        Layer(name=name, kind="Linear", parameter_bytes=0, output_bytes=0, saved_bytes=0,
              peak_bytes=size)
        for name, size in sizes.items()
    )  # fmt: skip
    cuda = CudaMetrics(workspace_bytes=KEPT)
    return StepReport(method="dry run", trace=trace, layers=layers, target="net", cuda=cuda)


def event(size: int, address: int, operator: str = MM, category: str = "temporary") -> Event:
    return Event(1, "backward", operator, "1", category, size, address)


@pytest.mark.parametrize(
    ("events", "workspace"),
    [
        ([event(SIZE, 1), event(-SIZE, 1)], SIZE),
        ([event(KEPT, 1)], KEPT),
        ([event(KEPT, 1), event(KEPT, 2)], KEPT),
        ([event(SIZE, 1)], None),
        ([event(KEPT, 1), event(-KEPT, 1)], None),
        ([event(SIZE, 1), event(8, 2), event(-SIZE, 1)], None),
        ([event(SIZE, 1, operator="aten::relu"), event(-SIZE, 1)], None),
        ([event(SIZE, 1, category="gradient"), event(-SIZE, 1)], None),
        ([event(SIZE + 1, 1), event(-SIZE - 1, 1)], None),
    ],
    ids=[
        "freed",
        "kept",
        "more than are kept",
        "kept by the program",
        "freed by it",
        "a temporary result",
        "no matmul",
        "a gradient",
        "another size",
    ],
)
def test_a_workspace_is_told_from_what_a_matmul_computes(
    events: list[Event], workspace: int | None
) -> None:
    before = reported(event(50, 9, "aten::to", "parameter"), *events)
    after = moved(before, {KEPT}, {SIZE})
    rows = {row.name: row.peak_bytes for row in after.layers}
    assert rows.get(NAME) == workspace
    assert sum(rows.values()) == sum(row.peak_bytes for row in before.layers)
    if workspace is not None:
        assert rows["1"] == sum(row.peak_bytes for row in before.layers) - workspace


NETS = """
from torch import nn
def net(): return nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)])
class Keeps(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.kept = nn.Linear(1024, 1024), []
    def forward(self, x):
        self.kept.append(self.linear(x))
        return self.kept[-1]
"""


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("words", "freed", "kept"),
    [
        ("net --input 64", 8_519_680, 2 * 8_519_680),
        ("Keeps --input 1024 --batch 256 --mode inference", 1 << 20, 8_519_680),
    ],
)
def test_no_layer_is_charged_with_the_workspace_and_none_is_taken_for_one(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, freed: int, kept: int
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    line = ["predict", *f"nets.py:{words} --gpu l4 --no-largest".split()]
    answer = json.loads(ask([*line, "--json"]).out)
    *layers, row = answer["layers"]
    assert row["name"] == NAME
    assert row["peak_bytes"] == (freed if WORKSPACES_FREED.holds() else kept)
    assert sum(one["peak_bytes"] for one in layers) + row["peak_bytes"] == answer["peak_live_bytes"]
    assert f"{NAME}  " in ask(line).out


@pytest.mark.usefixtures("cuda_build")
def test_kept_workspaces_of_two_threads_are_one_row(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    target = f"{tmp_path / 'nets.py'}:net"
    line = ["predict", target, "--input", "64", "--gpu", "l4", "--no-largest", "--json"]
    out, err = harness(*line, TORCH_CUBLAS_WORKSPACE_CACHE="1").communicate()
    assert out, err
    *_, row = json.loads(out)["layers"]
    assert (row["name"], row["peak_bytes"]) == (NAME, 2 * 8_519_680)

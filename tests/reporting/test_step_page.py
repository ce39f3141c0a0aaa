import re

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from harness.measurement.module_trace import trace
from harness.reporting.step_page import step_page
from harness.schema.events import Trace
from harness.schema.metrics import Layer
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes


@pytest.fixture(scope="module")
def report() -> StepReport:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters())
    with trace(model, optimizer=optimizer) as result:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(32, 8)).sum().backward()
            optimizer.step()
    return result.report


@pytest.fixture(scope="module")
def whole(report: StepReport) -> Trace:
    assert report.trace is not None
    return report.trace


def test_the_page_lists_layers_in_forward_order_and_the_largest_blocks(
    report: StepReport, whole: Trace
) -> None:
    sizes = {"parameter_bytes": 8, "output_bytes": 8, "saved_bytes": 8, "peak_bytes": 8}
    layers = tuple(Layer(name=name, kind="Linear", **sizes) for name in ("up", "", "down"))
    text = step_page(replace(report, layers=layers), "Mine <Net>")
    assert "<title>Mine &lt;Net&gt;</title>" in text
    assert f"peak {format_bytes(whole.peak_live_bytes)}" in text
    assert "</script>" not in text.partition("</main>")[0]
    listed = text[text.index("Layers, in forward order") : text.index("Largest blocks")]
    names = re.findall(r'<td class="name">(.*?) \(Linear', listed)
    assert names == ["up", "(network)", "down"]
    blocks = text[text.index("Largest blocks") :]
    largest = [int(size.replace(",", "")) for size in re.findall(r">([\d,]+)</td><td", blocks)]
    assert largest[:10] == [block.event.size_bytes for block in whole.alive_at_peak()[:10]]

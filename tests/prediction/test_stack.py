"""Normalization and dropout, worked by hand in docs/tutorial.md."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.measurement.passes import saved_pass
from harness.prediction.mlp import formula
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.schema.workload import Workload
from harness.training import training_step
from tests.prediction.test_cpu_trace import fill

DOCUMENT = Path(__file__).parents[2] / "docs" / "tutorial.md"

ROW = re.compile(r"^\| ?(.*?) \| `(.+?)` \| .+ \| (.+) \| (\d+) \|$", re.M)

SMALL = Workload(width=4, in_features=3, classes=2, batch=5)

NETWORKS: Mapping[str, Workload] = {
    "norm batch": SMALL.replace(norm="batch"),
    "norm layer": SMALL.replace(norm="layer"),
    "dropout 0.5": SMALL.replace(dropout=0.5),
}


def derived(name: str) -> dict[str, int]:
    """Return the document's rows for ``name``: bytes by module, each row's sum worked out."""
    text = DOCUMENT.read_text(encoding="utf-8")
    network, result = "", {}
    for first, module, sum_of_products, size in ROW.findall(text):
        network = first.strip("`") or network
        if network in ("each", name):
            assert _worked_out(sum_of_products) == int(size)
            result[module] = int(size)
    return result


def _worked_out(text: str) -> int:
    total = 0
    for part in text.split(" + "):
        product = 1
        for factor in part.split("·"):
            product *= int(factor)
        total += product
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_the_document_derives_what_is_saved(name: str) -> None:
    table = derived(name)
    assert len(table) >= 4
    assert formula.saved_by_module(NETWORKS[name]) == table


@pytest.mark.parametrize("name", NETWORKS)
def test_autograd_saves_what_the_document_derives(name: str) -> None:
    built = training_step.build(NETWORKS[name], fill)
    training_step.step(built)
    modules: dict[str, Any] = saved_pass(built, training_step.no_phase)["modules"]
    assert {module: result["saved_bytes"] for module, result in modules.items()} == derived(name)


@pytest.mark.parametrize("depth", [2, 6])
def test_the_peaks_of_deep_networks_by_hand(depth: int) -> None:
    batch, units, element = 512, 256, 4
    hidden = batch * units * element
    last_gradients = element * (units * 10 + 10)
    maps = element * (784 * units + units + (depth - 1) * (units * units + units)) + last_gradients
    base = maps + batch * 784 * element + batch * 8 + last_gradients + 8
    weights = 2 * depth * units * element
    buffers = weights + 8 * depth
    statistics_of_units = 2 * depth * units * element
    statistics_of_rows = 2 * depth * batch * element
    workload = Workload(depth=depth, batch=batch)
    assert (
        predict_trace(workload.replace(norm="batch")).peak_live_bytes
        == (base + weights + buffers + (2 * depth + 2) * hidden + statistics_of_units)
        + 2 * units * element
    )
    assert predict_trace(workload.replace(norm="layer")).peak_live_bytes == (
        base + weights + (2 * depth + 2) * hidden + statistics_of_rows
    )
    assert predict_trace(workload.replace(dropout=0.1)).peak_live_bytes == (
        base + (3 * depth + 1) * hidden + batch * 10 * element
    )

"""The predicted event sequence against derivations by hand.

``test_model_check`` and ``test_trace_property`` hold it against the measured one.
"""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from harness.measurement.passes import saved_pass, trace_pass
from harness.prediction.mlp import formula
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, predict_trace
from harness.schema.events import trace_metrics
from harness.schema.workload import Workload
from harness.training import training_step
from harness.training.data import source
from harness.training.module_step import no_phase, run_step

DOCUMENT = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_peak_of_the_default_network_by_hand() -> None:
    """784 -> 256 -> 256 -> 10, batch 512, relu, sgd, float32."""
    parameters = 4 * (784 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10)
    batch = 512 * 784 * 4 + 512 * 8
    hidden = 512 * 256 * 4
    last_gradients = 4 * (256 * 10 + 10)
    second_gradients = 4 * (256 * 256 + 256)
    first_gradients = 4 * (784 * 256 + 256)
    loss = 4 + 4  # the loss and its gradient, both held to the end
    base = parameters + batch + loss + last_gradients
    top_relu = base + 4 * hidden  # two activations, the gradients of its output and input
    bottom_relu = base + second_gradients + 3 * hidden  # one activation less
    bottom_sum = base + second_gradients + hidden + first_gradients
    metrics = trace_metrics(predict_trace(Workload(depth=2, batch=512)))
    assert metrics["peak_live_bytes"] == max(top_relu, bottom_relu, bottom_sum) == 4_794_456
    assert metrics["peak_phase"] == "backward"
    assert metrics["live_at_start_bytes"] == 2 * parameters + batch


def test_the_document_derives_the_same_events() -> None:
    """The table of the tutorial, row by row, is the measured step of the trace."""
    rows = re.findall(
        r"^\| *(\d+) \|.*\| *([+−]?[\d,]+) \| *([\d,]+) \|$", DOCUMENT.read_text(), re.M
    )
    network = Workload(hidden=(4, 4), in_features=3, classes=2, batch=6)
    trace = predict_trace(network)
    start = next(i for i, event in enumerate(trace.events) if event.step == 2)
    derived = [
        (int(size.replace(",", "").replace("−", "-")), int(live.replace(",", "")))
        for _, size, live in rows
    ]
    sizes = [event.size_bytes for event in trace.events[start:]]
    assert derived == list(zip(sizes, trace.live_bytes[start:], strict=True))
    assert max(live for _, live in derived) == trace.peak_live_bytes
    measured = trace_pass(network, source(network), no_phase)
    assert measured.live_bytes[-len(derived) :] == [live for _, live in derived]


ROW = re.compile(r"^\| ?(.*?) \| `(.+?)` \| .+ \| (.+) \| (\d+) \|$", re.M)
SMALL = Workload(width=4, in_features=3, classes=2, batch=5)
NETWORKS = {
    "norm batch": SMALL.replace(norm="batch"),
    "norm layer": SMALL.replace(norm="layer"),
    "dropout 0.5": SMALL.replace(dropout=0.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_document_derives_what_norms_and_dropout_save(name: str) -> None:
    """Its rows, each sum worked out, are the formula and what autograd saves, by module."""
    network, table = "", {}
    for first, module, sum_of_products, size in ROW.findall(DOCUMENT.read_text()):
        network = first.strip("`") or network
        if network in ("each", name):
            products = (map(int, part.split("·")) for part in sum_of_products.split(" + "))
            assert sum(map(math.prod, products)) == int(size)
            table[module] = int(size)
    assert len(table) >= 4
    assert formula.saved_by_module(NETWORKS[name]) == table
    built = training_step.build(NETWORKS[name], source(SMALL))
    run_step(built)
    modules: dict[str, Any] = saved_pass(built, no_phase)["modules"]
    assert {module: result["saved_bytes"] for module, result in modules.items()} == table


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": "bfloat16"}, "dtype bfloat16: what its matmuls allocate"),
        ({"autocast": "bfloat16"}, "dtype bfloat16: what its matmuls allocate"),
        ({"device": "cuda"}, "cuda"),
        ({"autocast": "float16", "dtype": "bfloat16"}, "autocast"),
        ({"autocast": "bfloat16", "dtype": "float64"}, "autocast"),
        ({"autocast": "bfloat16", "checkpoint": 1}, "autocast"),
        ({"autocast": "bfloat16", "norm": "layer"}, "autocast.*without .* norm"),
        ({"autocast": "bfloat16", "dropout": 0.5}, "autocast.*without .* dropout"),
        ({"checkpoint": 1, "norm": "batch"}, "checkpoint 1 .*without norm.*predict FILE"),
        ({"checkpoint": 1, "dropout": 0.5}, "checkpoint 1 .*without .* dropout"),
    ],
)
def test_what_is_not_followed_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedWorkloadError, match=why):
        predict_trace(Workload(**changes))

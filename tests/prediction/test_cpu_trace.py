"""The predicted event sequence: against the measured one, and against a derivation by hand."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.measurement.passes import saved_pass, trace_pass
from harness.prediction.mlp import formula
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, predict_trace
from harness.processes.worker import prime
from harness.schema.events import Event, Trace, trace_metrics
from harness.schema.workload import ACTIVATIONS, MODELS, NORMS, Workload
from harness.training import training_step
from harness.training.data import Fill, _fill_real
from harness.training.module_step import no_phase, run_step
from tests.prediction.comparison import fill, threads_of, without_scratch

DOCUMENT = Path(__file__).parents[2] / "docs" / "tutorial.md"

BASE = Workload(hidden=(12, 7), in_features=20, classes=5, batch=9, optimizer="none")
STACK = BASE.replace(hidden=(12, 7, 6))
STACKS = [
    *(
        STACK.replace(norm=norm, dropout=dropout, activation=name, accumulate=parts)
        for norm, dropout in (("batch", 0.0), ("layer", 0.0), ("none", 0.3), ("batch", 0.3))
        for name in ("relu", "relu_inplace", "gelu", "identity")
        for parts in (1, 2)
    ),
    *(STACK.replace(norm=norm, dropout=0.5, mode="inference") for norm in NORMS),
    STACK.replace(norm="layer", dropout=0.3, accumulate=2),
    STACK.replace(norm="batch", dropout=0.3, optimizer="adamw", dtype="float64", threads=2),
    STACK.replace(norm="layer", optimizer="momentum", foreach="on", dtype="float64", threads=2),
    STACK.replace(norm="batch", batch=2, threads=2),
    STACK.replace(norm="batch", dropout=0.3, hidden=(1,), in_features=1, classes=1),
    STACK.replace(norm="layer", batch=1, hidden=(1, 1), in_features=1, classes=1),
]
CASES = [
    *(BASE.replace(model=m, activation=name) for m in MODELS for name in ACTIVATIONS),
    *(BASE.replace(model=model, mode="inference") for model in MODELS),
    *(
        BASE.replace(optimizer=optimizer, foreach=foreach)
        for optimizer in ("sgd", "momentum", "adam", "adamw")
        for foreach in ("on", "off")
    ),
    BASE.replace(model="mlp-scratch", optimizer="adamw", dtype="float64"),
    BASE.replace(optimizer="adam", dtype="bfloat16", batch=64, in_features=48),
    BASE.replace(optimizer="adam", dtype="bfloat16", batch=65, in_features=48, threads=2),
    BASE.replace(model="mlp-scratch", dtype="bfloat16", batch=64, in_features=48),
    BASE.replace(optimizer="momentum", dtype="float16"),
    BASE.replace(batch=1),
    BASE.replace(hidden=(1, 1), classes=1, in_features=1, batch=1),
    BASE.replace(accumulate=4),
    BASE.replace(model="mlp-scratch", accumulate=9, dtype="float64"),
    BASE.replace(checkpoint=1),
    BASE.replace(checkpoint=2, activation="gelu", accumulate=2),
    BASE.replace(model="mlp-scratch", checkpoint=1, activation="tanh"),
    BASE.replace(model="mlp-scratch", checkpoint=2),
    BASE.replace(depth=20, width=6, activation="identity", optimizer="sgd"),
    *STACKS,
    *(stack.replace(dtype=dtype) for stack in STACKS[::4] for dtype in ("bfloat16", "float16")),
]


def measure(workload: Workload, fill: Fill = fill) -> Trace:
    """Return the trace of ``workload``, measured in this process."""
    with threads_of(workload):
        trace = trace_pass(workload, fill, no_phase)
    return without_scratch(trace, workload)


def predicted(workload: Workload) -> Trace:
    """Return what is compared: the derived trace, without what 16-bit matmuls free at once."""
    return without_scratch(predict_trace(workload, without_scratch=True), workload)


def by_block(events: Iterable[Event]) -> list[Event]:
    """Return ``events`` with a running number of the block in place of its address."""
    numbers: dict[int, int] = {}
    taken = 0
    result = []
    for event in events:
        if event.size_bytes > 0:
            taken += 1
            numbers[event.address] = taken
        result.append(event._replace(address=numbers[event.address]))
    return result


@pytest.mark.exact
@pytest.mark.parametrize("workload", CASES, ids=str)
def test_every_event_is_the_measured_one(workload: Workload) -> None:
    """Step, phase, operators, module, category, size and block, in the same order."""
    assert by_block(predicted(workload).events) == by_block(measure(workload).events)


def in_order_of_forward_returns(events: Iterable[Event]) -> list[tuple[object, ...]]:
    """Return events without addresses, neighbouring returns of a forward pass sorted."""
    result: list[tuple[object, ...]] = []
    returns: list[Event] = []
    for event in events:
        if event.size_bytes < 0 and event.phase == "forward":
            returns.append(event._replace(address=0))
            continue
        result += [*sorted(returns), event._replace(address=0)]
        returns = []
    return result + sorted(returns)


@pytest.mark.exact
@pytest.mark.parametrize("mode", ["train", "inference"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_autocast_differs_only_in_the_order_of_its_cache(activation: str, mode: str) -> None:
    """The weight cache is emptied in the order of a hash table of addresses."""
    workload = BASE.replace(mode=mode, activation=activation, autocast="bfloat16", batch=70)
    pair = (predicted(workload).events, measure(workload).events)
    derived, measured = map(in_order_of_forward_returns, pair)
    assert derived == measured


@pytest.mark.exact
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_real_images_add_no_event(dtype: str) -> None:
    workload = Workload(width=4, batch=7, data="fashion-mnist", dtype=dtype, mode="inference")
    images, labels = torch.zeros(3, 784, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    scale = torch.tensor(1 / 255, dtype=getattr(torch, dtype))
    measured = measure(workload, lambda x, y: _fill_real(x, y, images, labels, scale))
    assert by_block(predicted(workload).events) == by_block(measured.events)


@pytest.fixture(scope="module", autouse=True)
def _primed() -> None:
    """Let libraries do their one-time work first, as a worker's process does."""
    threads = torch.get_num_threads()
    prime()
    torch.set_num_threads(threads)


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
    assert measure(network).live_bytes[-len(derived) :] == [live for _, live in derived]


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
    built = training_step.build(NETWORKS[name], fill)
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
        predict_trace(BASE.replace(**changes))

"""The trace of networks nobody here wrote, against PyTorch's own tracker, to the byte."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from harness.measurement.module_trace import ModuleTrace, NestedTraceError, trace
from harness.schema.events import Event, Trace
from tests.instruments.test_allocation_trace import without
from tests.measurement.module_cases import CASES, Case, prepared

RNG_STATE_BYTES = 5056
KERNELS = re.compile(
    r".*?aten::(convolution_backward|mkldnn_convolution|_slow_conv2d_forward"
    r"|native_batch_norm_backward|native_batch_norm|mkldnn_rnn_layer_backward|mkldnn_rnn_layer)(?=/|$)"
)
"""Operators that take scratch in their kernels; the path up to the operator matches."""


def traced(case: Case) -> ModuleTrace:
    with trace(case.model, optimizer=case.optimizers, inputs=(case.x, case.y)) as result:
        case.step()
    return result


def mem_tracker_peak(case: Case) -> int:
    tracker = MemTracker()
    tracker.track_external(case.model, *case.optimizers, case.x, case.y)
    with tracker:
        case.step()
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


def scratch_of_kernels(whole: Trace) -> Callable[[int, Event], bool]:
    """Pick what a kernel takes for itself: taken below the dispatcher, returned before it ends.

    No operator but this one allocates or frees a block while it is alive.
    """

    def picked(order: int, event: Event) -> bool:
        kernel = KERNELS.match(event.operator)
        if kernel is None:
            return False
        for later in whole.events[order + 1 :]:
            if later.address == event.address:
                return later.size_bytes < 0
            if not later.operator.startswith(kernel[0]):
                return False
        return False

    return picked


def no_scratch(_: Trace) -> Callable[[int, Event], bool]:
    return lambda order, event: False


def generator_states(_: Trace) -> Callable[[int, Event], bool]:
    """Pick the copies of the generator's state that a checkpoint takes, outside any operator."""
    return lambda _, event: event.size_bytes == RNG_STATE_BYTES and "aten::" not in event.operator


EXPLAINED: dict[str, Callable[[Trace], Callable[[int, Event], bool]]] = {
    "convolutions": scratch_of_kernels, "resnet18": scratch_of_kernels,
    "checkpoint": generator_states, "checkpoint, reentrant": generator_states,
    "embedding": no_scratch, "encoder": no_scratch, "two optimizers": no_scratch,
}  # fmt: skip


@pytest.mark.exact
@pytest.mark.parametrize("name", EXPLAINED)
def test_the_peak_is_mem_trackers_but_for_named_events(name: str) -> None:
    case = prepared(CASES[name])
    whole = traced(case).trace
    seen = without(whole, EXPLAINED[name](whole))
    assert seen.peak_live_bytes == mem_tracker_peak(case)


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_the_peak_adds_up_and_nothing_is_left_over(name: str) -> None:
    """After a step as before it: parameters, gradients, state, input; the ends of old ones."""
    case = prepared(CASES[name])
    result = traced(case)
    blocks = result.trace.alive_at_peak()
    sizes_at_peak = [block.event.size_bytes for block in blocks]
    assert sum(sizes_at_peak) == result.peak_live_bytes
    assert sizes_at_peak == sorted(sizes_at_peak, reverse=True)
    assert sum(result.categories_at_peak().values()) == result.peak_live_bytes
    assert list(result.trace.phase_peaks()) == ["build", "forward", "backward", "optimizer"]
    held = [*case.model.parameters(), *case.model.buffers(), case.x, case.y]
    held += [p.grad for p in case.model.parameters() if p.grad is not None]
    for optimizer in case.optimizers:
        held += [v for s in optimizer.state.values() for v in s.values() if v is not None]
    sizes: dict[int, int] = {}
    for tensor in held:
        for part in (tensor._indices(), tensor._values()) if tensor.is_sparse else (tensor,):
            storage = part.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    assert result.trace.live_bytes[-1] == sum(sizes.values())


def test_the_categories_are_those_of_the_facts() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Sigmoid(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.ones(32, 8)

    def step() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    step()
    with trace(model, optimizer=optimizer, inputs=x) as result:
        step()
    weights = 4 * (8 * 16 + 16 + 16 * 4 + 4 + 2 * 16)
    taken: dict[str, int] = {}
    for event in result.trace.events:
        if event.size_bytes > 0:
            taken[event.category] = taken.get(event.category, 0) + event.size_bytes
    assert taken["parameter"] == weights + 4 * 32 + 8  # buffers, and the number of batches
    assert taken["optimizer_state"] == 2 * weights + 4 * 6  # six step counters
    assert taken["input"] == 4 * 32 * 8
    assert taken["gradient"] == 2 * weights  # those from before, and those of the step
    # The products of Linear 0 (kept by the norm), of the norm's own statistics, of Sigmoid.
    assert taken["activation"] == 4 * 32 * 16 * 2 + 2 * 4 * 16


def test_steps_and_phases_are_found() -> None:
    case = prepared(CASES["two optimizers"])
    with trace(case.model, optimizer=case.optimizers) as result:
        case.step()
        case.step()
    order: list[tuple[int, str]] = []
    for event in result.trace.events:
        if (event.step, event.phase) not in order:
            order.append((event.step, event.phase))
    step = ["forward", "backward", "optimizer"]
    expected = [(0, "build"), (0, "optimizer"), *((1, p) for p in step), *((2, p) for p in step)]
    assert order == expected
    assert result.trace.measured_step == 2


@pytest.mark.parametrize("keeps", [False, True])
def test_what_is_kept_after_each_step_is_growth_with_its_module(keeps: bool) -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    optimizer, kept = torch.optim.Adam(net.parameters()), []
    with trace(net, optimizer=optimizer) as result:
        for _ in range(12):
            out = net(torch.ones(16, 64))
            optimizer.zero_grad()
            out.square().mean().backward()
            optimizer.step()
            kept += [out.detach()] * keeps
    growth = result.trace.growth()
    assert (growth.kind, growth.per_step_bytes) == (("leak", 512) if keeps else ("plateau", 0))
    assert [place for place, _ in growth.places] == ["2: aten::addmm"] * keeps
    assert ("\nGrowth: 512 B more a step" if keeps else "\nNo growth:") in result.report.summary()


def test_gradient_accumulation_is_one_step_and_plain_backward_passes_are_several() -> None:
    case = prepared(CASES["frozen"])

    def passes() -> None:
        for _ in range(2):
            case.model(case.x).sum().backward()

    with trace(case.model) as several:
        passes()
    with trace(case.model) as one:
        passes()
        case.optimizers[0].step()
    assert (several.trace.measured_step, one.trace.measured_step) == (2, 1)


def test_what_an_older_input_was_is_found_when_it_reaches_the_network() -> None:
    model, x = nn.Linear(4, 3), torch.ones(5, 4)
    with trace(model) as result:
        model(x)
        del x
    rows = [(e.size_bytes, e.category) for e in result.trace.events if e.category == "input"]
    assert rows == [(80, "input"), (-80, "input")]


def test_without_operators_the_same_blocks_are_seen() -> None:
    rows = []
    for operators in (True, False):
        case = prepared(CASES["encoder"])
        with trace(case.model, inputs=(case.x, case.y), operators=operators) as result:
            case.step()
        rows.append([(e.size_bytes, e.category, e.step) for e in result.trace.events])
        assert result.peak_phase == "backward"
    assert rows[0] == rows[1]


def test_the_model_is_as_before_whatever_happens() -> None:
    model = nn.Sequential(nn.Linear(3, 5))
    with pytest.raises(KeyError), trace(model):
        raise KeyError
    assert all("forward" not in vars(module) for module in model.modules())
    with trace(model) as again:
        model(torch.ones(1, 3))
    assert again.peak_live_bytes > 0


def test_the_gradient_that_an_input_has_from_before_counts() -> None:
    model, x = nn.Linear(8, 4), torch.ones(16, 8, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    with trace(model, inputs=[x]) as traced:
        model(x).sum().backward()
    first = traced.trace.events[0]
    opening = sum(e.size_bytes for e in traced.trace.events if e.operator == first.operator)
    weights = 4 * (8 * 4 + 4)
    assert opening == 2 * weights + 2 * 4 * 16 * 8, "weights and input, each with its gradient"


def test_a_trace_inside_a_trace_is_an_error() -> None:
    model = nn.Linear(8, 4)
    with trace(model) as outer:
        with pytest.raises(NestedTraceError, match="running already"), trace(model):
            pass
        model(torch.ones(2, 8)).sum().backward()
    assert outer.peak_live_bytes > 0, "the outer one is not lost"

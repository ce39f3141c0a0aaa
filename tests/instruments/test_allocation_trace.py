import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.instruments.allocation_trace import AllocationRecorder
from harness.measurement.passes import trace_pass
from harness.prediction.versions import MAXIMUM_COMPARES_FIRST
from harness.schema.events import Event, Trace
from harness.schema.workload import Workload
from harness.training import data, training_step
from harness.training.module_step import no_phase, run_step


def test_known_blocks_are_recorded_with_size_phase_and_order() -> None:
    with AllocationRecorder() as recorder:
        with recorder.phase("build"):
            a = torch.empty(1000, dtype=torch.uint8)
        recorder.next_step()
        with recorder.phase("forward"):
            b = torch.empty(50, dtype=torch.float64)
            del a
        with recorder.phase("backward"):
            del b
    events = [(e.step, e.phase, e.size_bytes) for e in recorder.trace.events]
    assert events == [
        (0, "build", 1000), (1, "forward", 400), (1, "forward", -1000), (1, "backward", -400),
    ]  # fmt: skip


def test_a_category_is_of_the_block_alive_at_the_mark_and_the_first_mark_holds() -> None:
    with AllocationRecorder() as recorder:
        a = torch.empty(100)
        recorder.mark({a.data_ptr(): "parameter"})
        recorder.mark({a.data_ptr(): "gradient"})
        del a
        b = torch.empty(100)  # most likely at the same address
        recorder.mark({b.data_ptr(): "input"})
    taken = [e.category for e in recorder.trace.events if e.size_bytes > 0]
    assert taken == ["parameter", "input"]


def test_backward_blocks_belong_to_the_module_of_their_forward() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    with AllocationRecorder() as recorder:
        with recorder.module_scopes(model):
            out = model(torch.ones(3, 4)).sum()
        out.backward()
    taken = [e for e in recorder.trace.events if e.size_bytes > 0]
    products = [e for e in taken if e.operator.endswith("AddmmBackward0/aten::mm")]
    modules = [name for name, _ in itertools.groupby(e.module for e in products)]
    assert modules == ["1", "0"]


ORACLE_CASES: list[tuple[tuple[int, int, int], str, dict[str, Any]]] = [
    ((1, 256, 256), "sgd", {}),
    ((2, 64, 33), "none", {"activation": "tanh"}),
    ((2, 64, 33), "momentum", {"activation": "gelu"}),
    ((8, 32, 128), "none", {"activation": "relu_inplace"}),
    ((8, 32, 128), "sgd", {"activation": "silu"}),
    ((3, 40, 7), "momentum", {"model": "mlp-scratch", "activation": "tanh"}),
    ((4, 256, 512), "none", {"model": "mlp-scratch"}),
]


def mem_tracker_peak(workload: Workload) -> int:
    """Return the peak over the second step as PyTorch's own tracker counts it."""
    built = training_step.build(workload, data.source(workload))
    run_step(built)
    from torch.distributed._tools.mem_tracker import MemTracker  # takes seconds to import

    tracker = MemTracker()
    tracker.track_external(
        *[t for t in (built.model, built.optimizer, built.x, built.y) if t is not None]
    )
    with tracker:
        run_step(built)
    peak = tracker.get_tracker_snapshot("peak")
    return int(peak[torch.device("cpu")]["Total"])


def traced(workload: Workload) -> Trace:
    return trace_pass(workload, data.source(workload), no_phase)


def plain_trace(workload: Workload) -> list[tuple[Any, ...]]:
    """Trace without the hooks that name modules and saved tensors."""
    fill = data.source(workload)
    with AllocationRecorder() as recorder:
        with recorder.phase("build"):
            built = training_step.build(workload, fill)
        for _ in range(1 if workload.mode == "inference" else 2):
            recorder.next_step()
            run_step(built, recorder.phase)
    return [(e.step, e.phase, e.operator, e.size_bytes) for e in recorder.trace.events]


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "relu_inplace"}, {"activation": "gelu", "dtype": "bfloat16"},
        {"optimizer": "adam", "activation": "gelu"}, {"checkpoint": 2, "optimizer": "momentum"},
        {"accumulate": 3, "norm": "batch", "dropout": 0.3}, {"mode": "inference"},
        {"model": "mlp-scratch", "optimizer": "adam", "activation": "tanh"},
    ],
    ids=str,
)  # fmt: skip
def test_the_hooks_change_no_event_and_without_operators_none_is_missing(
    changes: dict[str, Any],
) -> None:
    workload = Workload(depth=3, width=24, batch=20, in_features=12, **changes)
    whole = traced(workload)
    seen = [(e.step, e.phase, e.operator, e.size_bytes) for e in whole.events]
    assert seen == plain_trace(workload)
    fill = data.source(workload)
    bare = trace_pass(workload, fill, no_phase, operators=False)

    def facts(trace: Trace) -> list[Any]:
        return [(e.step, e.phase, e.module, e.category, e.size_bytes) for e in trace.events]

    assert facts(bare) == facts(whole)


class PassingOn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode, as MemTracker is one, that only passes every operator on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def traced_under_a_mode(workload: Workload) -> Trace:
    with PassingOn():  # type: ignore[no-untyped-call]
        return traced(workload)


@pytest.mark.exact
@pytest.mark.parametrize(("sizes", "optimizer", "more"), ORACLE_CASES)
def test_the_peak_is_mem_trackers_to_the_byte(
    sizes: tuple[int, int, int], optimizer: str, more: dict[str, Any]
) -> None:
    """MemTracker is a dispatch mode, so its step is compared with a step under one."""
    depth, width, batch = sizes
    workload = Workload(depth=depth, width=width, batch=batch, optimizer=optimizer, **more)
    assert traced_under_a_mode(workload).peak_live_bytes == mem_tracker_peak(workload)


@pytest.mark.exact
def test_a_dispatch_mode_adds_a_gradient_to_the_backward_pass_of_maximum_since_2_14() -> None:
    """Zeros are filled in out of place then; without a mode no step allocates that block."""
    workload = Workload(model="mlp-scratch", depth=4, width=256, batch=512, optimizer="none")
    rise = traced_under_a_mode(workload).peak_live_bytes - traced(workload).peak_live_bytes
    assert rise == (4 * 512 * 256 if MAXIMUM_COMPARES_FIRST.holds() else 0)


def without(trace: Trace, unseen: Callable[[int, Event], bool]) -> Trace:
    """Return the trace without the blocks whose taking event ``unseen`` picks."""
    dropped: set[int] = set()
    kept = []
    for order, event in enumerate(trace.events):
        if event.size_bytes > 0 and unseen(order, event):
            dropped.add(event.address)
        elif event.size_bytes < 0 and event.address in dropped:
            dropped.remove(event.address)
        else:
            kept.append(event)
    return Trace(kept, steps=trace.measured_step)


@pytest.mark.exact
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_where_adam_shows_more_than_mem_tracker_the_events_add_up(optimizer: str) -> None:
    """A Python number in the update becomes an 8-byte scalar and its 4-byte copy in float32.

    Both are taken inside the C++ operators, below the dispatcher where MemTracker looks.
    """
    workload = Workload(depth=1, width=16, in_features=8, batch=4, optimizer=optimizer)
    trace = traced(workload)

    def number(order: int, event: Event) -> bool:
        return event.operator == f"Optimizer.step#{type_name}.step" and event.size_bytes == 8

    def copy_of_number(order: int, event: Event) -> bool:
        return event.operator.endswith("/aten::to/aten::_to_copy/aten::empty_strided")

    type_name = {"adam": "Adam", "adamw": "AdamW"}[optimizer]
    numbers = [b.event for b in trace.alive_at_peak() if number(b.order, b.event)]
    copies = [b.event for b in trace.alive_at_peak() if copy_of_number(b.order, b.event)]
    assert [e.size_bytes for e in numbers + copies] == [8, 4]
    seen = without(trace, lambda order, e: number(order, e) or copy_of_number(order, e))
    assert seen.peak_live_bytes == trace.peak_live_bytes - 12 == mem_tracker_peak(workload)


def test_a_block_from_before_the_recording_is_freed_without_a_message(
    capfd: pytest.CaptureFixture[str],
) -> None:
    old = [torch.empty(8) for _ in range(1001)]  # PyTorch warns about every thousandth
    with AllocationRecorder():
        old.clear()
    assert capfd.readouterr().err == ""

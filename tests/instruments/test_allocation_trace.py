from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.instruments.allocation_trace import AllocationRecorder
from harness.measurement.passes import trace_pass
from harness.prediction.versions import MAXIMUM_COMPARES_FIRST
from harness.schema.events import Event, Trace
from harness.schema.workload import Workload
from harness.training import data, training_step
from harness.training.module_step import no_phase, run_step

SCRATCH = Workload(model="mlp-scratch", depth=4, width=256, batch=512, optimizer="none")
ORACLE_CASES = [
    Workload(depth=1, width=256, batch=256, optimizer="sgd"),
    Workload(depth=2, width=64, batch=33, optimizer="none", activation="tanh"),
    Workload(depth=2, width=64, batch=33, optimizer="momentum", activation="gelu"),
    Workload(depth=8, width=32, batch=128, optimizer="none", activation="relu_inplace"),
    Workload(depth=8, width=32, batch=128, optimizer="sgd", activation="silu"),
    SCRATCH.replace(depth=3, width=40, batch=7, optimizer="momentum", activation="tanh"),
    SCRATCH,
]


def mem_tracker_peak(workload: Workload) -> int:
    """Return the peak over the second step as PyTorch's own tracker counts it."""
    built = training_step.build(workload, data.source(workload))
    run_step(built)
    from torch.distributed._tools.mem_tracker import MemTracker  # takes seconds to import

    tracker = MemTracker()
    parts = built.model, built.optimizer, built.x, built.y
    tracker.track_external(*[part for part in parts if part is not None])
    with tracker:
        run_step(built)
    return int(tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


def traced(workload: Workload) -> Trace:
    return trace_pass(workload, data.source(workload), no_phase)


def facts(trace: Trace, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(event, name) for name in names) for event in trace.events]


def plain_trace(workload: Workload) -> Trace:
    """Trace without the hooks that name modules and saved tensors."""
    fill = data.source(workload)
    with AllocationRecorder() as recorder:
        with recorder.phase("build"):
            built = training_step.build(workload, fill)
        for _ in range(1 if workload.mode == "inference" else 2):
            recorder.next_step()
            run_step(built, recorder.phase)
    return recorder.trace


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
    recorded = ("step", "phase", "operator", "size_bytes")
    assert facts(whole, *recorded) == facts(plain_trace(workload), *recorded)
    bare = trace_pass(workload, data.source(workload), no_phase, operators=False)
    inferred = ("step", "phase", "module", "category", "size_bytes")
    assert facts(bare, *inferred) == facts(whole, *inferred)


class PassingOn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode, as MemTracker is one, that only passes every operator on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def traced_under_a_mode(workload: Workload) -> Trace:
    with PassingOn():  # type: ignore[no-untyped-call]
        return traced(workload)


@pytest.mark.exact
@pytest.mark.parametrize("workload", ORACLE_CASES, ids=str)
def test_the_peak_is_mem_trackers_to_the_byte(workload: Workload) -> None:
    """MemTracker is a dispatch mode, so its step is compared with a step under one."""
    assert traced_under_a_mode(workload).peak_live_bytes == mem_tracker_peak(workload)


@pytest.mark.exact
def test_a_dispatch_mode_adds_a_gradient_to_the_backward_pass_of_maximum_since_2_14() -> None:
    """Zeros are filled in out of place then; without a mode no step allocates that block."""
    rise = traced_under_a_mode(SCRATCH).peak_live_bytes - traced(SCRATCH).peak_live_bytes
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
    scalar = {"adam": "Optimizer.step#Adam.step", "adamw": "Optimizer.step#AdamW.step"}[optimizer]
    copy = "/aten::to/aten::_to_copy/aten::empty_strided"

    def below(order: int, event: Event) -> bool:
        is_scalar = event.operator == scalar and event.size_bytes == 8
        return is_scalar or event.operator.endswith(copy)

    events = (block.event for block in trace.alive_at_peak() if below(block.order, block.event))
    assert sorted(event.size_bytes for event in events) == [4, 8]
    seen = without(trace, below)
    assert seen.peak_live_bytes == trace.peak_live_bytes - 12 == mem_tracker_peak(workload)


def test_a_block_from_before_the_recording_is_freed_without_a_message(
    capfd: pytest.CaptureFixture[str],
) -> None:
    old = [torch.empty(8) for _ in range(1001)]  # PyTorch warns about every thousandth
    with AllocationRecorder():
        old.clear()
    assert capfd.readouterr().err == ""

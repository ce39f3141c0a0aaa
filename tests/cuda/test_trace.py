"""The trace on a GPU; its peaks are compared with the allocator's counters in test_measure."""

from typing import Any

import pytest
import torch
from torch import nn

import harness
from harness.instruments.allocation_trace import AllocationRecorder
from harness.measurement import passes
from harness.schema.workload import Workload
from harness.training import data
from harness.training.module_step import no_phase
from tests.cuda.conftest import WORKSPACES_STAY

pytestmark = pytest.mark.cuda


def test_backward_blocks_of_autograds_thread_belong_to_their_step_phase_and_module() -> None:
    """The tree holds that thread's events apart, after all others: time must place them."""
    workload = Workload(device="cuda", depth=2, width=64, batch=32)
    trace = passes.trace_pass(workload, data.source(workload), no_phase)
    weights = [
        (event.step, event.phase, event.module)
        for event in trace.events
        if event.category == "gradient" and event.size_bytes > 64 * 4
    ]
    taken = [(step, "backward", module) for step in (1, 2) for module in ("4", "2", "0")]
    assert weights == taken


def test_a_users_own_block_is_traced_on_the_gpu() -> None:
    model = nn.Sequential(nn.Linear(30, 50), nn.ReLU(), nn.Linear(50, 10)).cuda()
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.zeros(7, 30, device="cuda")
    with harness.trace(model, optimizer=optimizer, device="cuda") as trace:
        for _ in range(3):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
    parameters = 4 * (31 * 50 + 51 * 10)
    assert trace.trace.measured_step == 3
    categories = trace.categories_at_peak()
    assert categories["parameter"] == parameters
    # Where the workspace is freed, the peak is the last product's: one bias still has no gradient.
    assert categories["gradient"] == parameters - (0 if WORKSPACES_STAY else 4 * 50)
    assert categories["optimizer_state"] == 2 * parameters  # step counters are the host's
    assert categories["input"] == 4 * 7 * 30
    assert set(trace.trace.phase_peaks()) >= {"forward", "backward", "optimizer"}


def test_a_log_that_somebody_else_keeps_is_not_ended() -> None:
    torch.cuda.memory._record_memory_history(context=None)
    try:
        with AllocationRecorder("cuda") as recorder:
            torch.zeros(100, device="cuda")
        assert [event.size_bytes for event in recorder.trace.events] == [400, -400]
        torch.zeros(100, device="cuda")
        snapshot: Any = torch.cuda.memory._snapshot
        assert any(snapshot()["device_traces"])
    finally:
        torch.cuda.memory._record_memory_history(None)

"""Running out of a GPU's memory: by the allocator's limit, by the GPU, next to others."""

import pytest

from harness.measurement.measure import measure
from harness.processes.launcher import Launcher
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from harness.thresholds.enforcement import BudgetError
from harness.thresholds.find_threshold import find_threshold
from tests.child_process import child
from tests.cuda.conftest import Busy
from tests.known import known

pytestmark = pytest.mark.cuda

NARROW = Workload(device="cuda", depth=3, width=64)
MIB = 1 << 20


def test_a_batch_larger_than_the_gpu_is_a_record_that_says_who_held_what(
    launcher: Launcher, gpu_bytes: int
) -> None:
    batch = gpu_bytes // (4 * NARROW.in_features) + 1
    record = measure(NARROW.replace(batch=batch), launcher=launcher)
    assert record.outcome is Outcome.OOM
    evidence = record.evidence["type"], record.evidence["phase"]
    assert evidence == ("OutOfMemoryError", "build")
    memory = record.evidence["gpu_memory"]
    assert memory["total_bytes"] == gpu_bytes
    held = memory["free_bytes"] + memory["reserved_bytes"] + memory["outside_bytes"]
    assert held == gpu_bytes


def test_the_limit_is_the_budget_to_the_byte() -> None:
    """A segment that just fills it is granted; under one byte less it is refused."""
    code = """
        import torch
        from harness.processes.limits.rlimit import caching_allocator
        def fits(budget):
            torch.cuda.empty_cache()
            try:
                with caching_allocator(budget):
                    torch.empty(96 << 20, dtype=torch.uint8, device="cuda")
            except torch.OutOfMemoryError:
                return False
            return True
        torch.cuda.init()
        print(fits(96 << 20), fits((96 << 20) - 1))
    """
    assert child(code).stdout.split() == ["True", "False"]


@pytest.mark.parametrize(
    ("workload", "budget_mib"),
    [
        (NARROW, 256), (NARROW.replace(optimizer="adam", width=512), 400),
        (NARROW.replace(mode="inference"), 192),
    ],
    ids=str,
)  # fmt: skip
def test_a_threshold_is_sharp_and_what_the_model_says(
    workload: Workload, budget_mib: int, launcher: Launcher
) -> None:
    budget_bytes = budget_mib * MIB
    answer = find_threshold(workload, budget_bytes=budget_bytes, launcher=launcher)
    assert (answer.outcome, answer.kind) == (Outcome.OK, "allocator")
    assert answer.smallest_fail == known(answer.largest_fit) + 1
    assert answer.band == ()
    needed = [one.needed_bytes for one in answer.probes if one.outcome is Outcome.OK]
    assert all(size is not None and size <= budget_bytes for size in needed)
    assert {one.type for one in answer.probes if one.outcome is Outcome.OOM} == {"OutOfMemoryError"}
    assert answer.predicted == pytest.approx(answer.largest_fit, rel=0.005)


def test_a_busy_gpu_leaves_less_and_the_record_says_so(
    busy: Busy, gpu_bytes: int, fresh_launcher: Launcher
) -> None:
    """No budget is given: what is free of the GPU is the budget, enforced by the driver."""
    busy(gpu_bytes - 1024 * MIB)
    answer = find_threshold(NARROW, confirmations=1, launcher=fresh_launcher)
    assert (answer.outcome, answer.kind) == (Outcome.OK, "card")
    assert answer.budget_bytes <= 1024 * MIB
    used = answer.environment["gpu_used_before_bytes"]
    assert answer.budget_bytes == gpu_bytes - used
    assert known(answer.largest_fit)
    assert max(one.needed_bytes or 0 for one in answer.probes) <= answer.budget_bytes


def test_a_budget_larger_than_the_gpu_is_a_mistake(launcher: Launcher, gpu_bytes: int) -> None:
    with pytest.raises(BudgetError, match="the memory of the GPU"):
        find_threshold(NARROW, budget_bytes=gpu_bytes + 1, launcher=launcher)

import os

import pytest

from harness.measurement.measure import measure
from harness.planning import pretended_workers
from harness.planning.pretended_workers import gpu_or_dry_run
from harness.processes.environment import pretended_device
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from harness.thresholds.find_threshold import threshold
from tests.known import known


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_a_record_and_a_threshold_say_that_their_gpu_was_pretended() -> None:
    """Time is left out of them."""
    workload = Workload(device="cuda", depth=1, width=512, batch=128, optimizer="adam")
    with gpu_or_dry_run("cuda", "a100-40gb") as device:
        record = measure(workload, repeats=2)
        answer = threshold(workload, budget_bytes=256 << 20)
    assert record.outcome is Outcome.OK
    assert record.environment["device"] == device == "dry run, a100-40gb"
    assert record.environment["gpu_multiprocessors"] == 108
    assert record.wall_seconds is None
    assert record.rss_rise_bytes is None
    cuda = known(record.cuda)
    assert cuda.outside_bytes is None
    assert cuda.requested_peak_bytes == record.peak_live_bytes  # from the allocation trace
    assert all(repeat.wall_seconds is None for repeat in record.repeats)
    assert answer.outcome is Outcome.OK
    assert answer.smallest_fail == known(answer.largest_fit) + 1
    assert answer.environment["device"] == device


@pytest.mark.usefixtures("cuda_build")
def test_the_environment_is_as_it_was_after_the_block() -> None:
    before = dict(os.environ)
    with gpu_or_dry_run("cuda", "t4"):
        assert pretended_device() == "dry run, t4"
        assert "libharness_dry_run.so" in os.environ["LD_PRELOAD"]
    assert dict(os.environ) == before


def test_nothing_is_pretended_for_the_cpu_and_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretended_workers, "has_gpu", lambda: True)
    for arguments in (("cpu", "t4"), ("cuda",)):
        with gpu_or_dry_run(*arguments) as device:
            assert device is pretended_device() is None

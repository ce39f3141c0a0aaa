"""Memory gathered in huge pages: nothing becomes resident, and no metric changes."""

import sys
from pathlib import Path

import pytest

from harness.measurement.measure import measure
from harness.measurement.process.fork_server import FORKS_BEFORE_GATHERING
from harness.measurement.process.launcher import ForkLauncher
from harness.measurement.process.messages import Job
from harness.schema.workload import Workload
from tests.instruments.test_rss import kernel_slack_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux gathers when asked")


@pytest.mark.slow
def test_a_metric_is_the_same_before_and_after_the_fork_server_has_gathered() -> None:
    workload = Workload(depth=4, width=256, batch=2048, optimizer="adam")
    own = ForkLauncher("pinned")
    try:
        first = measure(workload, launcher=own, repeats=1)
        for _ in range(FORKS_BEFORE_GATHERING - 1):
            own.launch(Job(kind="describe", workload=workload), 60)
        last = measure(workload, launcher=own, repeats=1)
        assert own._server is not None, "a job has started it"
        huge = _huge_kilobytes(own._server.pid)
    finally:
        own.close()
    if not huge:
        pytest.skip("the kernel gathered nothing")
    for name in ("saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"):
        assert getattr(first, name) == getattr(last, name) is not None
    assert first.rss_rise_bytes is not None
    assert last.rss_rise_bytes is not None
    assert abs(last.rss_rise_bytes - first.rss_rise_bytes) <= kernel_slack_bytes()


def _huge_kilobytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("AnonHugePages")).split()[1])

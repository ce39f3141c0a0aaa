"""Memory gathered in huge pages: nothing becomes resident, and no metric changes."""

import re
import sys
from pathlib import Path

import pytest

from harness.measurement.measure import measure
from harness.measurement.process.fork_server import FORKS_BEFORE_GATHERING
from harness.measurement.process.launcher import ForkLauncher
from harness.schema.workload import Workload
from tests.instruments.test_rss import kernel_slack_bytes
from tests.known import known

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux gathers when asked")


@pytest.mark.slow
def test_a_metric_is_the_same_before_and_after_the_fork_server_has_gathered(
    own: ForkLauncher,
) -> None:
    workload = Workload(depth=4, width=256, batch=2048, optimizer="adam")
    cells = FORKS_BEFORE_GATHERING // 2 + 1
    first, *_, last = [measure(workload, launcher=own) for _ in range(cells)]
    smaps = Path(f"/proc/{known(own._server).pid}/smaps_rollup").read_text()
    if not re.search(r"AnonHugePages: +[1-9]", smaps):
        pytest.skip("the kernel gathered nothing")
    for name in ("saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"):
        assert getattr(first, name) == getattr(last, name) is not None
    assert abs(known(last.rss_rise_bytes) - known(first.rss_rise_bytes)) <= kernel_slack_bytes()

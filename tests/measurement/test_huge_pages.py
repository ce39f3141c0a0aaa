"""Memory gathered in huge pages: nothing becomes resident, and no metric changes."""

import json
import re
import sys
from pathlib import Path

import pytest

from harness.measurement.measure import measure
from harness.measurement.process.fork_server import FORKS_BEFORE_GATHERING
from harness.measurement.process.launcher import ForkLauncher
from harness.schema.workload import Workload
from tests.child_process import child
from tests.instruments.test_rss import kernel_slack_bytes
from tests.known import known

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux gathers when asked")

_GATHER = """
    import json, mmap
    from pathlib import Path
    from harness.measurement.malloc_policy import allow_huge_pages
    from harness.measurement.limits.own_pages import HUGE_BYTES, gather

    def resident():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
        sizes = dict(line.split(":") for line in lines)
        return [int(sizes[name].split()[0]) << 10 for name in ("Anonymous", "AnonHugePages")]

    def mapped():
        return mmap.mmap(-1, 4 * HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    allow_huge_pages(False)
    full, holed = mapped(), mapped()
    full.write(bytes([1]) * len(full))
    for place in range(0, len(holed), 2 * mmap.PAGESIZE):
        holed[place] = 1
    before = resident()
    allow_huge_pages(True)
    gathered = gather()
    allow_huge_pages(False)
    after = resident()
    later = mapped()
    later.write(bytes([1]) * len(later))
    print(json.dumps([before, after, resident(), gathered]))
"""


def test_only_what_is_wholly_in_memory_is_gathered() -> None:
    told = child(_GATHER)
    assert told.returncode == 0, told.stderr
    before, after, later, gathered = json.loads(told.stdout)
    if not gathered:
        pytest.skip("this kernel gathers nothing: older than Linux 6.1, or no huge page is free")
    assert before[1] == 0
    assert after[1] >= gathered >= 3 << 21
    assert after[0] - before[0] < 64 << 10, "nothing but Python's own objects was added"
    assert later[1] == after[1], "huge pages are disabled again"


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

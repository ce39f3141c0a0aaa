"""Real images, and memory that is gathered in huge pages, change no metric."""

import re
from pathlib import Path

import pytest

from harness.measurement.measure import measure
from harness.processes.fork_server import FORKS_BEFORE_GATHERING
from harness.processes.launcher import ForkLauncher, Launcher
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from harness.training import image_files
from tests.child_process import child
from tests.instruments.test_rss import kernel_slack_bytes
from tests.known import known
from tests.training.test_data import write_images

EXACT = (
    "saved_bytes", "modules", "peak_live_bytes", "first_step_peak_live_bytes",
    "live_at_start_bytes", "live_before_forward_bytes", "phases", "categories_at_peak",
)  # fmt: skip


def test_real_images_and_synthetic_ones_give_the_same_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: Launcher, own: ForkLauncher
) -> None:
    write_images(tmp_path, 50)
    monkeypatch.setenv(image_files.FOLDER_VARIABLE, str(tmp_path))
    for workload in (Workload(batch=120), Workload(batch=7, dtype="float64", mode="inference")):
        synthetic = measure(workload, launcher=launcher)
        real = measure(workload.replace(data="fashion-mnist"), launcher=own)
        assert real.outcome is Outcome.OK
        for name in EXACT:
            assert getattr(real, name) == getattr(synthetic, name), name


_GATHER = """
    import mmap
    from pathlib import Path
    from harness.processes.malloc_policy import allow_huge_pages
    from harness.processes.limits.own_pages import HUGE_BYTES, gather

    def resident():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Anonymous")).split()[1]) << 10

    def mapped():
        return mmap.mmap(-1, 4 * HUGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    allow_huge_pages(False)
    full, holed = mapped(), mapped()
    full.write(bytes([1]) * len(full))
    for place in range(0, len(holed), 2 * mmap.PAGESIZE):
        holed[place] = 1
    before = resident()
    allow_huge_pages(True)
    print(gather(), resident() - before)
"""


def test_only_what_is_wholly_in_memory_is_gathered() -> None:
    gathered, more = (int(word) for word in child(_GATHER).stdout.split())
    if not gathered:
        pytest.skip("this kernel gathers nothing: older than Linux 6.1, or no huge page is free")
    assert gathered >= 3 << 21
    assert more < 64 << 10, "nothing but Python's own objects was added"


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
    for name in EXACT:
        assert getattr(first, name) == getattr(last, name), name
    assert abs(known(last.rss_rise_bytes) - known(first.rss_rise_bytes)) <= kernel_slack_bytes()

"""Faults of processes, injected into a real sweep from outside, at random times."""

import contextlib
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.child_process import child
from tests.faults.conftest import IN_FULL, SITE
from tests.faults.grid import FULL, Tally
from tests.faults.processes import (
    coordinator,
    count,
    forkserver_of,
    log_of,
    settle,
    wait_for_records,
    worker_of,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


@pytest.mark.parametrize(
    ("victim", "hit", "quick", "full"),
    [
        pytest.param(worker_of, psutil.Process.kill, (12, 2), (150, 36), id="worker-killed"),
        pytest.param(worker_of, psutil.Process.suspend, (8, 1), (60, 8), id="worker-stopped"),
        pytest.param(forkserver_of, psutil.Process.kill, (8, 1), (60, 10), id="forkserver-killed"),
        pytest.param(
            forkserver_of, psutil.Process.suspend, (8, 1), (60, 8), id="forkserver-stopped"
        ),
    ],
)
def test_process(
    victim: Callable[[int], psutil.Process | None],
    hit: Callable[[psutil.Process], None],
    quick: tuple[int, int],
    full: tuple[int, int],
    tmp_path: Path,
    tally: Tally,
) -> None:
    if not FULL and victim is forkserver_of:
        pytest.skip(IN_FULL)
    folder, (cells, limit) = tmp_path / "run", full if FULL else quick
    chance = random.Random(cells)
    with coordinator(folder, cells) as process:
        wait_for_records(folder, 1, process)
        while tally.injected < limit and process.poll() is None:
            time.sleep(chance.uniform(0, 0.1))
            result = victim(process.pid)
            if result is None:
                continue
            before = count(folder)
            with contextlib.suppress(psutil.NoSuchProcess):
                hit(result)
                tally.injected += 1
            wait_for_records(folder, before + 3, process)  # until the cell had its retry
        assert process.wait() == 0, log_of(folder).read_text()[-2000:]
    settle(folder, cells, tally)


KINDS = ("prints", "closes", "garbage", "exits")


def test_worker_prints_megabytes_closes_pipes_writes_garbage_or_exits(
    tmp_path: Path, tally: Tally
) -> None:
    folder, cells = tmp_path / "run", 100 if FULL else 4
    hits = tmp_path / "hits"
    hits.mkdir()
    path = os.pathsep.join([str(SITE), os.environ.get("PYTHONPATH", "")])
    faults = {"FAULT_FOLDER": str(hits), "FAULT_KINDS": ",".join(KINDS), "PYTHONPATH": path}
    with coordinator(folder, cells, **faults) as process:
        assert process.wait() == 0
    tally.injected = len(list(hits.iterdir()))
    assert tally.injected == cells
    settle(folder, cells, tally)


def test_measured_again_and_again_in_one_process(tally: Tally) -> None:
    """Nothing grows: the table counts descriptors, threads, children and MiB that were left."""
    times = 300 if FULL else 40
    done = child(f"""
        import gc, psutil
        from harness.measurement.measure import measure
        from harness.processes.launcher import default_launcher
        from harness.schema.workload import Workload
        own, launcher = psutil.Process(), default_launcher("pinned")
        workload = Workload(width=8, in_features=8, batch=4)
        def now():
            gc.collect()
            size = own.memory_info().rss >> 20
            return own.num_fds(), own.num_threads(), len(own.children(recursive=True)), size
        for number in range({times}):
            assert measure(workload, repeats=1, launcher=launcher).outcome == "ok"
            if number == 9:
                print(*now())
        print(*now())
        launcher.close()
        print(len(own.children(recursive=True)))
    """)
    warm, last, (children,) = ([int(n) for n in line.split()] for line in done.stdout.splitlines())
    tally.injected += times
    tally.left += children + sum(max(0, b - a) for a, b in zip(warm, last, strict=True))
    tally.settle_answers()

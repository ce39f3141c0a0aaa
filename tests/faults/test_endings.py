"""Signals at the whole command, at any moment: what is left behind, and whether it resumes."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from harness.processes.limits import cgroup
from tests.child_process import harness, wait_for_handlers
from tests.faults.conftest import full_only
from tests.faults.grid import FULL, Tally
from tests.faults.processes import coordinator, finish, settle
from tests.limits_here import needs_cgroup

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
]
SIGNALS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL]
TRIALS, LONGEST_SECONDS = (40, 6.0) if FULL else (4, 4.0)


def below(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


def alive_of(processes: Sequence[psutil.Process]) -> int:
    """Wait a moment for processes to end; return how many have not."""
    _, alive = psutil.wait_procs(list(processes), timeout=60)
    return len([process for process in alive if process.status() != psutil.STATUS_ZOMBIE])


def test_sweep_ended_by_a_signal(tmp_path: Path, tally: Tally) -> None:
    """Also while the fork server loads torch; the same command then goes on to the end."""
    folder, cells = tmp_path / "run", 24
    chance = random.Random(21)
    for number in range(TRIALS):
        with coordinator(folder, cells) as process:
            time.sleep(chance.uniform(0.3, LONGEST_SECONDS))
            family = below(process.pid)
            process.send_signal(SIGNALS[number % len(SIGNALS)])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=30)
        tally.injected += 1
        tally.left += alive_of(family)
    finish(folder, cells)
    settle(folder, cells, tally)
    assert tally.left == 0


def test_threshold_ended_by_a_signal(tally: Tally) -> None:
    needs_cgroup()
    place = next(cgroup.places())[1]
    chance = random.Random(22)
    flags = ["--depth", "4", "--width", "64", "--budget", "64MiB", "--kind", "cgroup"]
    for number in range(TRIALS):
        with harness("threshold", *flags) as process:
            wait_for_handlers(process)
            time.sleep(chance.uniform(0, LONGEST_SECONDS))
            family = below(process.pid)
            request = SIGNALS[number % len(SIGNALS)]
            process.send_signal(request)
            out, err = process.communicate()
        tally.injected += 1
        tally.left += alive_of(family)
        tally.internal += "Traceback" in out + err or "internal error" in err
        if request is not signal.SIGKILL:
            tally.left += len(list(place.glob(f"harness-{process.pid}-*")))
            tally.wrong += process.returncode not in (0, 128 + request)
    time.sleep(1.1)
    with cgroup.group() as made:  # whose start removes what SIGKILL left
        stale = [path for path in place.glob("harness-*") if path != made.folder]
        tally.left += len([path for path in stale if str(os.getpid()) in path.name])
    tally.settle_answers()
    assert tally.left == 0


def lines(folder: Path) -> list[bytes]:
    """Return every line that experiments of a run keep."""
    return [line for file in folder.glob("*/*.jsonl") for line in file.read_bytes().splitlines()]


@full_only
def test_reproduce_killed(tmp_path: Path, tally: Tally) -> None:
    """SIGKILL at any moment, 30 times; the same command then has each job once, and a report."""
    folder = tmp_path / "run"
    command = ("reproduce", "--quick", "--out", str(folder))
    chance = random.Random(23)
    while tally.injected < 30:
        with harness(*command) as process:
            wanted = len(lines(folder)) + chance.randrange(6)
            while len(lines(folder)) < wanted and process.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 1))
            family = below(process.pid)
            process.kill()
            process.communicate()
        if process.returncode == 0:  # it was quicker: begin anew
            shutil.rmtree(folder)
            continue
        tally.injected += 1
        tally.left += alive_of(family)
    with harness(*command) as process:
        _, err = process.communicate()
    tally.internal += process.returncode != 0
    result = [json.loads(line) for line in lines(folder)]
    tally.wrong += len(result) - len(set(lines(folder))) + sum(one["attempt"] > 1 for one in result)
    tally.lost += abs(sum(map(int, re.findall(r": (\d+) cells", err))) - len(result))
    tally.settle_answers()
    assert (folder / "report.html").is_file()

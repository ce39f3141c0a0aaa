"""Faults of processes, injected into a real sweep from outside, at random times."""

import contextlib
import importlib.util
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from harness.execution.executors import Measured, make_executor
from harness.execution.store import read
from harness.record import Outcome
from tests.faults.conftest import FULL
from tests.faults.grid import Tally, records_path, sweep

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="signals and forks"),
    pytest.mark.timeout(900 if FULL else 120),
]
SITE = Path(__file__).parent / "site"


@contextlib.contextmanager
def coordinator(folder: Path, cells: int, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the sweep in a process of its own; end it with the block."""
    command = [sys.executable, "-m", "tests.faults.sweeper", str(folder), str(cells)]
    log = folder.with_suffix(".log")
    with log.open("a") as errors:
        process = subprocess.Popen(command, text=True, stderr=errors, env=os.environ | environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def count(folder: Path) -> int:
    path = records_path(folder)
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_records(folder: Path, number: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 60
    while count(folder) < number and process.poll() is None:
        assert time.monotonic() < deadline, "the sweep stands still"
        time.sleep(0.01)


def forkserver_of(parent: int) -> psutil.Process | None:
    """Return the coordinator's forkserver, once it runs."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(parent).children():
            if any("forkserver" in word for word in child.cmdline()):
                return child
    return None


def worker_of(parent: int) -> psutil.Process | None:
    """Return the process that measures just now."""
    server = forkserver_of(parent)
    with contextlib.suppress(psutil.Error):
        if server is not None:
            return next(iter(server.children()), None)
    return None


def inject(
    folder: Path,
    cells: int,
    tally: Tally,
    victim: Callable[[int], psutil.Process | None],
    hit: Callable[[psutil.Process], None],
    limit: int,
) -> None:
    """Hit ``limit`` victims, each after the cell that was hit before has had its retry."""
    chance = random.Random(cells)
    with coordinator(folder, cells) as process:
        wait_for_records(folder, 1, process)
        while tally.injected < limit and process.poll() is None:
            time.sleep(chance.uniform(0, 0.1))
            found = victim(process.pid)
            if found is None:
                continue
            before = count(folder)
            with contextlib.suppress(psutil.NoSuchProcess):
                hit(found)
                tally.injected += 1
            wait_for_records(folder, before + 3, process)
        assert process.wait(timeout=120) == 0, folder.with_suffix(".log").read_text()[-2000:]


def settle(folder: Path, cells: int, reference: Sequence[Measured], tally: Tally) -> None:
    tally.check(folder, reference[:cells])
    assert tally.injected > 0
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes


def kill(process: psutil.Process) -> None:
    process.send_signal(signal.SIGKILL)


def stop(process: psutil.Process) -> None:
    process.send_signal(signal.SIGSTOP)


@pytest.mark.parametrize(
    ("victim", "hit", "quick", "full"),
    [
        pytest.param(worker_of, kill, (12, 2), (150, 36), id="worker-killed"),
        pytest.param(worker_of, stop, (8, 1), (60, 8), id="worker-stopped"),
        pytest.param(forkserver_of, kill, (8, 1), (60, 10), id="forkserver-killed"),
        pytest.param(forkserver_of, stop, (8, 1), (60, 8), id="forkserver-stopped"),
    ],
)
def test_process(
    victim: Callable[[int], psutil.Process | None],
    hit: Callable[[psutil.Process], None],
    quick: tuple[int, int],
    full: tuple[int, int],
    tmp_path: Path,
    reference: Sequence[Measured],
    tally: Tally,
) -> None:
    if not FULL and victim is forkserver_of:
        pytest.skip("in make faults: test_launcher.py has it in its quick form")
    cells, limit = full if FULL else quick
    inject(tmp_path / "run", cells, tally, victim, hit, limit)
    settle(tmp_path / "run", cells, reference, tally)


def test_coordinator_killed(tmp_path: Path, reference: Sequence[Measured], tally: Tally) -> None:
    if not FULL:
        pytest.skip("in make faults: test_sweep.py has it in its quick form")
    folder, cells = tmp_path / "run", 60
    chance = random.Random(7)
    for _ in range(10):
        with coordinator(folder, cells) as process:
            wait_for_records(folder, count(folder) + 1, process)
            time.sleep(chance.uniform(0, 0.5))
            process.kill()
            tally.injected += 1
    with coordinator(folder, cells) as process:
        assert process.wait(timeout=120) == 0
    settle(folder, cells, reference, tally)


def test_coordinator_stopped(tmp_path: Path, reference: Sequence[Measured], tally: Tally) -> None:
    if not FULL:
        pytest.skip("in make faults")
    chance = random.Random(8)

    def freeze(process: psutil.Process) -> None:
        process.suspend()
        time.sleep(chance.uniform(0, 0.8))
        process.resume()

    inject(tmp_path / "run", 100, tally, psutil.Process, freeze, 30)
    settle(tmp_path / "run", 100, reference, tally)


KINDS = ("prints", "closes", "garbage", "exits", "files")


def test_worker_prints_megabytes_closes_pipes_writes_garbage_exits_or_has_no_files(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    """An exhausted limit is an honest error, and stands; everything else is tried once more."""
    folder, cells = tmp_path / "run", 100 if FULL else 5
    hits = tmp_path / "hits"
    hits.mkdir()
    path = os.pathsep.join([str(SITE), os.environ.get("PYTHONPATH", "")])
    faults = {"FAULT_FOLDER": str(hits), "FAULT_KINDS": ",".join(KINDS), "PYTHONPATH": path}
    with coordinator(folder, cells, **faults) as process:
        assert process.wait(timeout=240) == 0
    tally.injected = len(list(hits.iterdir()))
    assert tally.injected == cells
    limited = {hit.name for hit in hits.iterdir() if hit.read_text() == "files"}
    found = {record.workload_id: record for record in read(records_path(folder))}
    for name in limited:
        assert found[name].outcome is Outcome.ERROR
        assert "Too many open files" in found[name].evidence["message"]
    tally.check(folder, reference[:cells], failed=limited)
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes


def test_coordinator_without_files_to_open(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    """With too few descriptors a sweep ends in one line, or runs; then it resumes."""
    folder, cells = tmp_path / "run", 6
    command = [sys.executable, "-m", "tests.faults.sweeper", str(folder), str(cells)]
    for limit in range(5, 25, 1) if FULL else (9,):

        def few_files(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        done = subprocess.run(
            command, capture_output=True, text=True, check=False, preexec_fn=few_files
        )
        tally.injected += 1
        if done.returncode:
            assert "Too many open files" in done.stderr or "LaunchError" in done.stderr
    with coordinator(folder, cells) as process:
        assert process.wait(timeout=120) == 0
    settle(folder, cells, reference, tally)


def dask_workers() -> list[psutil.Process]:
    """Return this process's Dask workers: those that hold a forkserver and are none."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            own = "harness.execution.forkserver" in process.cmdline()
            if not own and forkserver_of(process.pid) is not None:
                found.append(process)
    return sorted(found, key=lambda process: process.pid)


@pytest.mark.filterwarnings("ignore")  # Dask's own, on losing a worker
def test_dask_worker_killed_again_and_again(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    if not FULL:
        pytest.skip("in make faults: test_executors.py has it in its quick form")
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("distributed is not installed (the extra 'cluster')")
    cells, over = 200, threading.Event()
    chance = random.Random(9)

    def kill_one() -> None:
        """Kill whichever worker came last, so that the other one stays."""
        while not over.wait(chance.uniform(1.0, 3.0)):
            workers = dask_workers()
            if len(workers) == 2 and count(tmp_path) < cells - 10:
                workers[-1].send_signal(signal.SIGKILL)
                tally.injected += 1

    executor = make_executor("dask", jobs=2)
    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        sweep(tmp_path, cells, executor)
    finally:
        over.set()
        killer.join()
        executor.close()
    settle(tmp_path, cells, reference, tally)
    assert tally.injected >= 3

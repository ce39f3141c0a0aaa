"""A sweep in a process of its own, the processes below it, and what can be done to them."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.faults.grid import Tally, records_path

FORK_SERVER = "harness.processes.fork_server"


@contextlib.contextmanager
def coordinator(
    folder: Path, cells: int, prefix: Sequence[str] = (), **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Run the sweep below the command ``prefix``; end it with the block."""
    command = [*prefix, sys.executable, "-m", "tests.faults.sweeper", str(folder), str(cells)]
    with log_of(folder).open("a") as errors:
        process = subprocess.Popen(command, text=True, stderr=errors, env=os.environ | environment)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def log_of(folder: Path) -> Path:
    """Return the file of what coordinators said."""
    return folder.with_suffix(".log")


def finish(folder: Path, cells: int) -> None:
    """Go on with the sweep, undisturbed, to its end."""
    with coordinator(folder, cells) as process:
        assert process.wait() == 0, log_of(folder).read_text()[-2000:]


def settle(folder: Path, cells: int, tally: Tally) -> None:
    """Hold the finished sweep against the undisturbed one."""
    tally.check(folder, cells)
    assert tally.injected > 0
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes


def count(folder: Path) -> int:
    """Return how many records there are."""
    path = records_path(folder)
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_records(
    folder: Path, number: int, process: "subprocess.Popen[str] | None" = None
) -> None:
    """Return when there are ``number`` records, or when ``process`` has ended."""
    while count(folder) < number and (process is None or process.poll() is None):
        time.sleep(0.01)


def forkserver_of(parent: int) -> psutil.Process | None:
    """Return a process's forkserver, once it runs."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(parent).children():
            if FORK_SERVER in child.cmdline():
                return child
    return None


def worker_of(parent: int) -> psutil.Process | None:
    """Return the process that measures just now."""
    server = forkserver_of(parent)
    with contextlib.suppress(psutil.Error):
        if server is not None:
            return next(iter(server.children()), None)
    return None


def dask_workers() -> list[psutil.Process]:
    """Return the Dask workers below this process, oldest first: those that hold a forkserver."""
    result = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            is_fork = FORK_SERVER in process.cmdline()  # a forkserver's own
            if not is_fork and forkserver_of(process.pid) is not None:
                result.append((process.create_time(), process))
    return [process for _, process in sorted(result, key=lambda pair: pair[0])]

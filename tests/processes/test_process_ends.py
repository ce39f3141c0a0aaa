"""Nothing is left of a launcher's processes however it, or the fork server, ends."""

import contextlib
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.measurement.measure import measure
from harness.measurement.probe_job import Probe
from harness.processes.launcher import ForkLauncher, LaunchError
from harness.processes.limits import cgroup
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from tests.faults.processes import forkserver_of
from tests.known import known
from tests.limits_here import needs_cgroup

TINY = Workload(width=8, in_features=8, batch=4)

_PARENT = """
from harness.measurement.probe_job import Probe
from harness.measurement.pass_jobs import RunPasses
from harness.processes.launcher import ForkLauncher
from harness.schema.workload import Workload
launcher = ForkLauncher("pinned")
launcher.launch(Probe(workload=Workload(width=8)), 60)
launcher.launch(RunPasses(workload=Workload(width=8), inject="hang"), 600)
"""


def wait_for_server(parent: "subprocess.Popen[bytes]") -> psutil.Process:
    while parent.poll() is None:
        if server := forkserver_of(parent.pid):
            return server
        time.sleep(0.01)
    raise AssertionError("no fork server was started")


@pytest.mark.parametrize(("delay", "stopped"), [(0.0, False), (0.05, True), (0.5, True)])
def test_a_loading_fork_server_ends_with_its_killed_parent(delay: float, stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT]) as parent:
        server = wait_for_server(parent)
        time.sleep(delay)
        if stopped:
            server.suspend()
        parent.kill()
    # A process that is held before it could ask the kernel cannot be reached: let it go on.
    if stopped and delay < 0.5:
        with contextlib.suppress(psutil.Error):
            server.resume()
    assert psutil.wait_procs([server], timeout=60)[1] == []


def test_no_worker_outlives_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT]) as parent:
        server = wait_for_server(parent)
        while not server.children():
            time.sleep(0.02)
        family = [server, *server.children()]
        parent.kill()
    assert psutil.wait_procs(family, timeout=60)[1] == []


def test_a_fork_server_that_dies_is_replaced(own: ForkLauncher) -> None:
    first = measure(TINY, launcher=own)
    known(own._server).kill()
    hit = measure(TINY, launcher=own, deadline_seconds=3)
    assert hit.outcome in (Outcome.OK, Outcome.CRASHED, Outcome.TIMEOUT)
    assert measure(TINY, launcher=own).peak_live_bytes == first.peak_live_bytes


@pytest.mark.slow
def test_a_signal_that_ends_a_loading_fork_server_is_named(own: ForkLauncher) -> None:
    def hit() -> None:
        while own._server is None:
            time.sleep(0.01)
        own._server.terminate()

    other = threading.Thread(target=hit)
    other.start()
    with pytest.raises(LaunchError, match="SIGTERM ended it while it loaded torch"):
        own.launch(Probe(workload=TINY), 60)
    other.join()


@pytest.mark.slow
def test_a_deadline_shorter_than_a_fork_is_a_timeout(own: ForkLauncher) -> None:
    measure(TINY, launcher=own)
    record = measure(Workload(depth=512, batch=4096), launcher=own, deadline_seconds=0.001)
    assert record.outcome is Outcome.TIMEOUT, record.evidence
    assert measure(TINY, launcher=own).outcome is Outcome.OK


@pytest.mark.slow
def test_a_process_of_many_open_files_measures(own: ForkLauncher) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        pytest.skip("this system allows fewer than 2,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert measure(TINY, launcher=own).outcome is Outcome.OK
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_that_has_not_yet_asked_to_die_with_its_server_is_ended(own: ForkLauncher) -> None:
    fork = ["sh", "-c", "sleep 60 & echo $!; wait"]
    server = subprocess.Popen(fork, stdout=subprocess.PIPE, start_new_session=True)
    assert server.stdout is not None, "it is a pipe"
    young = psutil.Process(int(server.stdout.readline()))
    young.suspend()
    own._server = server
    own.close()
    server.stdout.close()
    assert psutil.wait_procs([young], timeout=60)[1] == []


_GROUP = """
import sys, time
from harness.processes.limits import cgroup
with cgroup.group() as made:
    print(made.folder, flush=True)
    time.sleep(600)
"""


def test_an_old_group_of_a_dead_process_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_cgroup()
    with subprocess.Popen([sys.executable, "-c", _GROUP], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None, "it is a pipe"
        folder = Path(parent.stdout.readline().decode().strip())
        parent.kill()
    with cgroup.group():
        assert folder.is_dir(), "it may be about to be joined"
    monkeypatch.setattr(cgroup, "_STALE_SECONDS", 0.0)
    with cgroup.group():
        assert not folder.is_dir()

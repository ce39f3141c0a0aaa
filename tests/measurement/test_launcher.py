import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.measurement.measure import measure
from harness.measurement.process.launcher import ForkLauncher, Launcher, SpawnLauncher
from harness.measurement.process.messages import Call
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from tests.known import known

TINY = Workload(width=8, in_features=8, batch=4)


@pytest.mark.slow
def test_both_launchers_give_the_same_exact_metrics(launcher: Launcher) -> None:
    """A worker is an interpreter of its own where there is no fork."""
    spawning = SpawnLauncher("pinned")
    one, other = (measure(TINY, launcher=each, repeats=1) for each in (spawning, launcher))
    spawning.close()
    assert one.outcome is Outcome.OK
    for name in ("saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"):
        assert getattr(one, name) == getattr(other, name) is not None


@pytest.mark.parametrize(
    ("inject", "outcome", "evidence"),
    [
        ("kill", Outcome.KILLED, {"signal": "SIGKILL", "phase": "forward"}),
        ("error", Outcome.ERROR, {"type": "RuntimeError", "message": "an injected error"}),
        ("oom", Outcome.OOM, {"type": "RuntimeError", "phase": "forward"}),
        ("hang", Outcome.TIMEOUT, {"phase": "forward"}),
    ],
)
def test_every_ending_is_a_record_with_its_evidence(
    inject: str, outcome: Outcome, evidence: dict[str, Any], launcher: Launcher
) -> None:
    limit = 3 if inject == "hang" else 300
    record = measure(TINY, launcher=launcher, inject=inject, deadline_seconds=limit)
    assert record.outcome is outcome
    assert evidence.items() <= record.evidence.items()
    assert record.peak_live_bytes is None
    assert measure(TINY, launcher=launcher).outcome is Outcome.OK, "the next cell is undisturbed"


IMPORTED = """
import os
BY = os.getpid()

def called(request, announce):
    return {"imported by": BY, "server": os.getppid()}
"""


def test_the_server_of_the_user_s_steps_imports_what_is_called_and_no_fork_does(
    tmp_path: Path,
) -> None:
    (tmp_path / "imported.py").write_text(IMPORTED)
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    launcher = ForkLauncher("system", environment={"PYTHONPATH": places}, primes=False)
    try:
        done, failed = (
            launcher.launch(Call(function=name, request=b"", device="cuda", malloc="system"), 60)
            for name in ("imported:called", "missing:called")
        )
        facts = known(done.result)
        assert facts["imported by"] == facts["server"]
        assert "No module named 'missing'" in known(failed.failure).message
    finally:
        launcher.close()


def server_of(launcher: ForkLauncher) -> psutil.Process:
    assert launcher._server is not None, "a job has started it"
    return psutil.Process(launcher._server.pid)


def test_a_forkserver_that_dies_is_replaced() -> None:
    if sys.platform != "linux":
        pytest.skip("this system has no fork")
    own = ForkLauncher("pinned")
    try:
        first = measure(TINY, launcher=own)
        server_of(own).send_signal(signal.SIGKILL)
        hit = measure(TINY, launcher=own, deadline_seconds=3)
        after = measure(TINY, launcher=own)
        assert hit.outcome in (Outcome.OK, Outcome.CRASHED, Outcome.TIMEOUT)
        assert after.peak_live_bytes == first.peak_live_bytes
    finally:
        own.close()


_PARENT = """
import sys
from harness.measurement.process.messages import Probe, RunPasses
from harness.measurement.process.launcher import ForkLauncher
from harness.schema.workload import Workload
launcher = ForkLauncher("pinned")
launcher.launch(Probe(workload=Workload(width=8)), 60)
print(launcher._server.pid, flush=True)
launcher.launch(RunPasses(workload=Workload(width=8), inject="hang"), 600)
"""


def test_no_process_outlives_a_killed_parent() -> None:
    if sys.platform != "linux":
        pytest.skip("this system has no fork")
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None, "it is a pipe"
        server = psutil.Process(int(parent.stdout.readline()))
        while not server.children():
            time.sleep(0.02)
        family = [server, *server.children()]
        assert len(family) == 2
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []


def test_two_threads_after_a_single_threaded_server_do_not_hang(launcher: Launcher) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    record = measure(Workload(depth=2, threads=2), launcher=launcher)
    assert record.outcome is Outcome.OK
    assert record.environment["threads"] == 2

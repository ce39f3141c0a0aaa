import os
from pathlib import Path
from typing import Any

import pytest

from harness.measurement.measure import measure
from harness.processes.launcher import ForkLauncher, Launcher
from harness.processes.messages import Call
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from tests.known import known

TINY = Workload(width=8, in_features=8, batch=4)


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


def test_two_threads_after_a_single_threaded_server_do_not_hang(launcher: Launcher) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    record = measure(Workload(depth=2, threads=2), launcher=launcher)
    assert record.outcome is Outcome.OK
    assert record.environment["threads"] == 2

"""A process that loads is waited for as long as it works, and no longer."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.measurement.probe_job import Probe
from harness.processes import launcher
from harness.processes.launcher import ForkLauncher, LaunchError
from harness.processes.loading import VARIABLE, answers, stuck
from harness.schema.argument_checks import ArgumentError
from harness.schema.workload import Workload
from tests.commands import Ask

BUSY = """
import time
until = time.monotonic() + 3
while time.monotonic() < until:
    pass
print("done", flush=True)
time.sleep(60)
"""
IDLE = "import time; time.sleep(60)"


@contextmanager
def running(code: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def waited(code: str, until: Callable[[float], bool]) -> bool:
    ours, theirs = socket.socketpair()
    with ours, theirs, running(code) as process:
        begun = time.monotonic()
        found = answers(ours, process.pid)
        assert until(time.monotonic() - begun)
        return found


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr("harness.processes.loading._LOOK_SECONDS", 0.1)


@pytest.mark.usefixtures("quickly")
def test_a_process_that_works_is_waited_for_and_one_that_stands_still_is_not() -> None:
    assert not waited(IDLE, lambda seconds: seconds < 30)
    assert not waited(BUSY, lambda seconds: seconds > 2.5)
    ours, theirs = socket.socketpair()
    with ours, theirs, running(IDLE) as process:
        theirs.send(b"x")
        assert answers(ours, process.pid)


def test_what_is_said_names_the_way_out_and_a_wrong_value_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert stuck("its process").endswith(
        f"set {VARIABLE} to more seconds, then run the command again"
    )
    monkeypatch.setenv(VARIABLE, "soon")
    with pytest.raises(ArgumentError, match="must be a number of seconds, got"):
        stuck("its process")


def test_a_server_that_does_not_start_is_exit_code_3_and_no_half_sentence(
    monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.setattr(launcher, "answers", lambda *_: False)
    with pytest.raises(LaunchError, match=r"run the command again$") as caught:
        ForkLauncher("pinned").launch(Probe(workload=Workload(width=8)), 60)
    assert "fork server" not in str(caught.value)

    def fails(*_: object, **__: object) -> None:
        raise LaunchError("no worker process can be started")

    monkeypatch.setattr("harness.measurement.measure.measure", fails)
    assert ask(["measure", "mlp:1x8"], 3).err.endswith("no worker process can be started\n")

"""Signals end any script, and nothing that it started stays behind."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from harness.dry_runs.run import dry_run
from harness.dry_runs.run_folders import run_folder
from tests.child_process import harness
from tests.dry_runs.scripts import script

pytestmark = pytest.mark.usefixtures("cuda_build")

SWALLOWS = """
while True:
    try: time.sleep(600)
    except BaseException: pass
"""
BLOCKS = """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
time.sleep(600)
"""
HEAD = """
import os, signal, subprocess, sys, time
sleep = [sys.executable, '-c', 'import time; time.sleep(600)']
started = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True),
           subprocess.Popen(sleep, start_new_session=True, env={})]
print(*(one.pid for one in started), flush=True)
"""


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that ended and waits for its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(
    folder: Path, text: str, ctrl_c: signal.Handlers = signal.SIG_DFL
) -> tuple["subprocess.Popen[str]", list[int]]:
    """Start a dry run; return it and the processes that its script started."""
    command = "dry-run", "--json", "--", str(script(folder, HEAD + text))
    process = harness(*command, ctrl_c=ctrl_c, TMPDIR=str(folder))
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.parametrize(
    ("text", "numbers", "seconds", "evidence"),
    [
        (SWALLOWS, [signal.SIGINT] * 2, 5, "interrupted"),
        ("time.sleep(600)", [signal.SIGINT], 5, "interrupted"),
        (SWALLOWS, [signal.SIGTERM], 5, "ended by SIGTERM"),
        (SWALLOWS, [signal.SIGHUP], 5, "ended by SIGHUP"),
        (BLOCKS, [signal.SIGINT] * 3, 5, "interrupted"),
        (BLOCKS, [signal.SIGTERM] * 2, 20, "ended by SIGTERM"),
    ],
)
def test_signals_end_a_script_that_does_not_want_to(
    tmp_path: Path, text: str, numbers: list[int], seconds: float, evidence: str
) -> None:
    ctrl_c = signal.SIG_IGN if text is not SWALLOWS else signal.SIG_DFL
    process, started = start(tmp_path, text, ctrl_c)
    for number in numbers:
        time.sleep(0.3)
        process.send_signal(number)
    begin = time.monotonic()
    out, _ = process.communicate()
    report = json.loads(out.splitlines()[-1])
    assert (report["outcome"], report["evidence"]["message"]) == ("killed", evidence)
    assert process.returncode == 128 + numbers[0]
    assert time.monotonic() - begin < 4 * seconds  # on a machine with other work
    assert not any(map(is_running, started))
    assert not list(tmp_path.glob("harness-dry-run-*"))


def test_an_ended_script_leaves_no_process_in_any_session(tmp_path: Path) -> None:
    process, started = start(tmp_path, "")
    process.communicate()
    assert process.returncode == 0
    assert not any(map(is_running, started))


@pytest.mark.quick
def test_nothing_stays_where_the_harness_is_killed(tmp_path: Path) -> None:
    process, started = start(tmp_path, "time.sleep(600)")
    process.kill()
    process.communicate()
    while any(map(is_running, started)) or list(tmp_path.glob("harness-dry-run-*")):
        time.sleep(0.05)


def test_the_next_start_ends_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, running = tmp_path / "harness-dry-run-left", tmp_path / "harness-dry-run-runs"
    for folder in (left, running):
        folder.mkdir()
        (folder / "owner").touch()
    environment = os.environ | {"HARNESS_DRY_RUN_STATUS": str(left / "status")}
    process = subprocess.Popen(["sleep", "600"], env=environment)
    try:
        while b"sleep" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        with (running / "owner").open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            with run_folder() as folder, run_folder() as other:
                assert process.wait() == -signal.SIGKILL
                assert sorted(tmp_path.iterdir()) == sorted([running, folder, other])
    finally:
        process.kill()
        process.wait()


LOST_SIGNAL = """
import os, pathlib, signal
from harness.dry_runs.supervisor import supervised
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
lifeline, other = os.pipe()
supervised(lifeline, [pathlib.Path("no such folder")])
os._exit(7)
"""


@pytest.mark.quick
def test_a_lost_signal_does_not_make_a_dry_run_wait_for_ever() -> None:
    """The supervisor sees the end of the script even if the signal that tells of it is lost."""
    ended = subprocess.run([sys.executable, "-c", LOST_SIGNAL], timeout=60, check=False)
    assert ended.returncode == 7


FORKS = """
import os, signal, time
fork = os.fork() or time.sleep(600)
time.sleep(0.2)
os.kill(fork, signal.SIGTERM)
raise SystemExit(-os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
"""


def test_a_signal_ends_a_fork_at_once(tmp_path: Path) -> None:
    """A handler of ours waited for the interpreter, so pools that end their workers hung."""
    report = dry_run(script(tmp_path, FORKS), gpu="l4", quiet=True)
    assert report.evidence == f"the script exited with code {int(signal.SIGTERM)}"

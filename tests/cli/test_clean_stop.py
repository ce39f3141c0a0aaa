"""Signals at the command line: a clean stop, whenever they come and however many they are."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.child_process import child, harness, wait_for_handlers

HANGING = ["measure", "--depth", "1", "--width", "8", "--inject", "hang", "--deadline", "300"]


@pytest.mark.parametrize(
    ("number", "times", "size"),
    [(signal.SIGTERM, 1, 1), (signal.SIGINT, 3, 0), (signal.SIGINT, 3, 1)],
)
def test_signals_end_the_command_and_all_its_processes(
    number: signal.Signals, times: int, size: int
) -> None:
    """With one process below the command the fork server still loads torch."""
    with harness(*HANGING) as process:
        wait_for_handlers(process)
        while len(below := psutil.Process(process.pid).children(recursive=True)) < size:
            assert process.poll() is None, "it ended before its children started"
            time.sleep(0.02)
        for _ in range(times):
            if process.poll() is None:
                process.send_signal(number)
                time.sleep(0.01)
        out, err = process.communicate()
    assert process.returncode == 128 + number
    assert "Traceback" not in out + err
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == []


@pytest.mark.slow
def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    command = [sys.executable, "-m", "harness", "measure", "--depth", "1", "--width", "8"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=ignore) as process:
        wait_for_handlers(process)
        process.send_signal(signal.SIGHUP)
        process.communicate()
    assert process.returncode == 0


_INTERRUPTED_IMPORT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from harness.cli.entry import main
sys.exit(main())
"""


def test_an_interrupt_while_the_command_line_loads_prints_nothing() -> None:
    done = child(_INTERRUPTED_IMPORT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")

"""The supervisor sees the end of the script even if the signal that tells of it is lost."""

import subprocess
import sys

CODE = """
import os, pathlib, signal
from harness.dry_run.supervisor import supervised
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
lifeline, other = os.pipe()
supervised(lifeline, pathlib.Path("no such folder"))
os._exit(7)
"""


def test_a_lost_signal_does_not_make_a_dry_run_wait_for_ever() -> None:
    ended = subprocess.run([sys.executable, "-c", CODE], timeout=60, check=False)
    assert ended.returncode == 7

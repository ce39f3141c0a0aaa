"""Waits for a process that loads PyTorch, unless the process is stuck.

On a busy machine or a slow disk, loading PyTorch can take minutes. A stuck process does not use the
CPU and does not read from disk.
"""

import os
import socket
import time

import psutil

from harness.processes.start_child import readable
from harness.schema.argument_checks import ArgumentError

STILL_SECONDS = 120.0
"""Time after which a process without progress is regarded as stuck, in seconds."""
VARIABLE = "HARNESS_START_SECONDS"
_LOOK_SECONDS = 2.0


def answers(connection: socket.socket, process: int) -> bool:
    """Wait for data on ``connection``; return False if ``process`` is stuck, else True."""
    patience = _patience()
    seen, until = _progress(process), time.monotonic() + patience
    while time.monotonic() < until:
        if readable([connection], min(_LOOK_SECONDS, patience)):
            return True
        now = _progress(process)
        if now != seen:
            seen, until = now, time.monotonic() + patience
    return False


def stuck(process: str) -> str:
    """Return an error message on a stuck process, with advice."""
    return (
        f"{process} has done nothing for {_patience():g} s while it loads PyTorch; end other "
        f"processes, or set {VARIABLE} to more seconds, then run the command again"
    )


def _patience() -> float:
    given = os.environ.get(VARIABLE, "")
    try:
        seconds = float(given or STILL_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ArgumentError(f"{VARIABLE} must be a number of seconds, got {given!r}")
    return seconds


def _progress(process: int) -> object:
    """Return a value that changes while the process uses the CPU or waits for the disk."""
    try:
        one = psutil.Process(process)
        waits = one.status() == psutil.STATUS_DISK_SLEEP
        used = one.cpu_times()
        return time.monotonic() if waits else (used.user, used.system, one.memory_info().rss)
    except psutil.Error:
        return None

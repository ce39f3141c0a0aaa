"""Supervises a script: ends all its processes when the script or the harness ends.

Processes whose parent has ended become children of the supervisor (prctl(2),
PR_SET_CHILD_SUBREAPER). The supervisor notices the end of the harness because a pipe closes.
"""

import contextlib
import ctypes
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.dry_runs.file_layer import LAYERS, remove
from harness.dry_runs.host_memory import HostSampler
from harness.dry_runs.layer_size import TOO_LARGE, LayerSize, give_room
from harness.processes.start_child import die_with_parent, readable

GRACE_SECONDS = 30.0
"""Seconds that a script has for cleanup after its deadline or a first signal except SIGINT."""
SHORT_GRACE_SECONDS = 5.0
"""Seconds that a script has after a second signal; a third signal kills the script at once."""

_PR_SET_CHILD_SUBREAPER = 36
FORWARDED = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
_PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.02
"""Seconds between two checks whether the script has ended, because SIGCHLD could be lost."""


def supervised(
    lifeline: int,
    folders: Sequence[Path],
    end_at: float | None = None,
) -> None:
    """Fork and return in the new process; the old process becomes the supervisor.

    Args:
        lifeline: file descriptor of a pipe that closes when the harness ends.
        folders: the folder of the run, then the folders of its layers.
        end_at: the deadline, as a value of ``time.monotonic()``.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervisor = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    script = os.fork()
    if script:
        sampler = HostSampler(script, folders[0])
        end_at = math.inf if end_at is None else end_at
        _Supervisor(script, sampler).run(lifeline, folders, end_at)
    os.close(lifeline)
    os.setsid()
    die_with_parent(supervisor)


def unblock_signals() -> None:
    """Deliver the signals that were blocked until the script's process had set its handlers."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


class _Supervisor:
    def __init__(self, script: int, sampler: HostSampler) -> None:
        self._script = script
        self._sampler = sampler
        self._signals = 0
        self._kill_at = math.inf

    def run(self, lifeline: int, folders: Sequence[Path], end_at: float) -> None:
        """Wait until the script or the harness ends; then exit with the script's exit code."""
        for number in FORWARDED:
            signal.signal(number, self._hand_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        code: int | None = None
        orphaned = False
        layers, is_written = LayerSize([folder / LAYERS for folder in folders[1:]]), False
        while code is None and not orphaned:
            orphaned = bool(readable([lifeline], _LOOK_SECONDS))
            if time.monotonic() >= end_at:
                end_at = math.inf
                self._signal(signal.SIGINT, GRACE_SECONDS)
            if not is_written and (excess := layers.excess()) is not None:
                is_written = True
                _write_reason(excess, folders[0])
                self._signal(signal.SIGTERM, SHORT_GRACE_SECONDS)
            if time.monotonic() >= self._kill_at:
                self._signal(signal.SIGKILL, 0.0)
            self._sampler.sample()
            code = self._ended()
        if not is_written and (excess := layers.excess(at_once=True)) is not None:
            _write_reason(excess, folders[0])  # it ended between two looks
        give_room(folders[0])
        self._sampler.write()
        _end_descendants(self._script)
        if orphaned:
            for folder in folders:
                remove(folder)
        _end_like(code or 0)

    def _ended(self) -> int | None:
        """Reap ended processes; return the script's exit code, negative for a signal."""
        code = None
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._script:
                    code = os.waitstatus_to_exitcode(ended[1])
        return code

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """Pass the first signal on to the script; end the script at later signals."""
        del frame
        self._signals += 1
        if self._signals == 1:
            self._signal(number, math.inf if number == signal.SIGINT else GRACE_SECONDS)
        else:
            self._signal(signal.SIGTERM, SHORT_GRACE_SECONDS if self._signals == 2 else 0.0)

    def _signal(self, number: int, seconds: float) -> None:
        """Send a signal to the script; kill the script if it still runs after ``seconds``."""
        self._kill_at = min(self._kill_at, time.monotonic() + seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._script, number)


def _write_reason(excess: str, folder: Path) -> None:
    """Record in the run's folder that the run is ended because its files are too large."""
    give_room(folder)
    (folder / TOO_LARGE).write_text(excess)


def _end_descendants(script: int) -> None:
    import psutil  # in this process alone: the script's is as it would be without

    if not Path("/proc/self").exists():  # nothing can be found; what is in its group is ended
        with contextlib.suppress(OSError):
            os.killpg(script, signal.SIGKILL)
        return
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)


def _end_like(code: int) -> None:
    """End this process with the script's exit code, or by the signal that ended the script."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (-code,))
        os.kill(os.getpid(), -code)
        time.sleep(1.0)
    os._exit(code & 0xFF)

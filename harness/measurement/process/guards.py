"""First settings of every child process: it ends with its parent, and dies first for memory.

Source: prctl(2), PR_SET_PDEATHSIG; proc_pid_oom_score_adj(5).
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_DIE = "1000"


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when ``parent``, its parent, ends; at once if it has.

    A parent is the thread that started the process: a launcher's server ends with the thread
    that used the launcher first, and is started again when it is needed again.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.name == "posix" and os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def die_first_for_memory() -> None:
    """Have the kernel choose this process where the machine runs out of memory."""
    with contextlib.suppress(OSError):  # no Linux, or no /proc
        _OOM_SCORE.write_text(_FIRST_TO_DIE)

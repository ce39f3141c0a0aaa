"""First code that a child process runs, as ``start_child PARENT MODULE [ARGUMENT]``.

Before torch is loaded, the code makes the kernel kill this process when the parent process ends.
After that, the code calls ``main`` of ``MODULE``. Parent and child wait for data with ``readable``.

Source: prctl(2), PR_SET_PDEATHSIG; proc_pid_oom_score_adj(5).
"""

import contextlib
import ctypes
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.version import PACKAGE

_PR_SET_PDEATHSIG = 1
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_DIE = "1000"

_CODE = (
    "import importlib, importlib.util, sys;"
    " spec = importlib.util.spec_from_file_location('harness', sys.argv[1]);"
    " sys.modules['harness'] = package = importlib.util.module_from_spec(spec);"
    " spec.loader.exec_module(package);"
    " del sys.argv[:2];"
    " raise SystemExit(importlib.import_module(sys.argv[0]).main())"
)
"""Program that loads the harness by its path, because another package may have the same name. With
``-P``, ``sys.path`` contains neither the current folder nor a script's folder."""


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when its parent process ends.

    If the process ``parent`` has already ended, exit now. For the kernel, the parent of a process
    is the thread that started the process. So a launcher's fork server ends with the thread that
    first used the launcher. When the launcher is used again, it starts a new server.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def die_first_for_memory() -> None:
    """Make the kernel's OOM killer kill this process before other processes."""
    with contextlib.suppress(OSError):  # no /proc
        _OOM_SCORE.write_text(_FIRST_TO_DIE)


def own_interpreter(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``main`` of a module of the harness."""
    package = PACKAGE / "__init__.py"
    return [sys.executable, "-P", "-c", _CODE, str(package), module, *arguments]


def command(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``module`` in a child of this process."""
    return own_interpreter(__name__, str(os.getpid()), module, *arguments)


def main() -> int:
    """Call ``main`` of the module that the command line names."""
    parent, module, *arguments = sys.argv[1:]
    die_with_parent(int(parent))
    sys.argv = [module, *arguments]
    code: int = importlib.import_module(module).main()
    return code


def readable(files: Iterable[socket.socket | int], seconds: float | None = None) -> list[int]:
    """Wait for at most ``seconds``; return the descriptors that have data or are closed.

    Unlike ``select.select``, this function accepts descriptors above 1,023.
    """
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return [ready for ready, _ in poll.poll(None if seconds is None else 1000 * max(0.0, seconds))]

"""Finds the outcome of an ended process, and converts exceptions to failures.

Only this file decides whether an error means that memory ran out, on the host or on a GPU.
"""

import os
import re
import signal
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.processes.messages import Ended, Failure
from harness.schema.errors import HarnessError, UnsupportedError
from harness.schema.library_files import is_library
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.version import PACKAGE

_HARNESS = f"{PACKAGE.resolve()}{os.sep}"
_PACKAGES = re.compile(r"(?:site|dist)-packages.(?!torch\W)")
"""Pattern of paths of installed packages other than PyTorch."""
_MOST_CHARACTERS = 2000

# What libraries say under a limit. A refused CPU allocation is a plain RuntimeError.
_OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "out of memory",
    "failed to allocate",
    "could not allocate",
    "_status_alloc_failed",  # cuBLAS and its like
)


_LIMIT_TEXTS = ("too many open files", "resource temporarily unavailable", "can't start new thread")
"""Parts of error messages that mean a limit on files, processes or threads."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` means that memory ran out.

    ``torch.OutOfMemoryError`` is recognised by its name, so that this file needs no torch.
    """
    names = "OutOfMemoryError", "TooLargeError"  # PyTorch's, and that of a pretended GPU
    if isinstance(error, MemoryError) or type(error).__name__ in names:
        return True
    if isinstance(error, OSError):
        return error.errno == 12  # ENOMEM
    return isinstance(error, RuntimeError) and _has_any(_OUT_OF_MEMORY_TEXTS, str(error))


def signal_name(number: int) -> str:
    """Return the name of a signal, or the number of a signal that has no name."""
    known = number in set(signal.Signals)
    return signal.Signals(number).name if known else f"signal {number}"


def is_under_limit(failure: Failure) -> bool:
    """Return whether a job failed because of a limit on files, processes or threads."""
    return _has_any(_LIMIT_TEXTS, failure.message)


def _has_any(phrases: Iterable[str], text: str) -> bool:
    lowered = text.lower()
    return any(phrase in lowered for phrase in phrases)


def classify(ended: Ended[Any]) -> tuple[Outcome, FailureEvidence]:
    """Return the outcome of a process and the evidence of a failure (empty without a failure)."""
    outcome, evidence = _classify(ended)
    if outcome is not Outcome.OK:
        evidence["phase"] = ended.phase
        evidence["seconds"] = ended.seconds
        if ended.stderr_tail:
            evidence["stderr"] = ended.stderr_tail
    return outcome, evidence


def _classify(ended: Ended[Any]) -> tuple[Outcome, FailureEvidence]:
    if ended.timed_out:
        return Outcome.TIMEOUT, {"message": "the deadline passed; the process was killed"}
    if ended.failure is not None:
        outcome = Outcome.OOM if ended.failure.out_of_memory else Outcome.ERROR
        evidence: FailureEvidence = {"type": ended.failure.type, "message": ended.failure.message}
        if ended.failure.gpu_memory:
            evidence["gpu_memory"] = ended.failure.gpu_memory
        return outcome, evidence
    if ended.lost is not None:
        return Outcome.CRASHED, {"message": ended.lost}
    if ended.exit_code is not None and ended.exit_code < 0:
        return _ended_by_signal(ended, -ended.exit_code)
    if ended.result is None:
        message = f"ended with exit code {ended.exit_code} and no result"
        return Outcome.CRASHED, {"message": message}
    return Outcome.OK, {}


def _ended_by_signal(ended: Ended[Any], number: int) -> tuple[Outcome, FailureEvidence]:
    name = signal_name(number)
    evidence: FailureEvidence = {"signal": name}
    if number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS):
        memory = _has_any(_OUT_OF_MEMORY_TEXTS, ended.stderr_tail)
        evidence["message"] = f"the process ended itself by {name}"
        return (Outcome.OOM if memory else Outcome.CRASHED), evidence
    if number == signal.SIGKILL and ended.oom_kills:
        evidence["message"] = "the kernel's OOM killer killed it, by its cgroup's counter"
        evidence["oom_kills"] = ended.oom_kills
        return Outcome.OOM, evidence
    why = ", perhaps by the kernel's OOM killer: see dmesg" if number == signal.SIGKILL else ""
    evidence["message"] = f"the process was killed by {name}{why}"
    return Outcome.KILLED, evidence


class ForkFailedError(Exception):
    """A call in a forked process raised an error, or the process ended without a result."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """Convert an exception to a ``Failure``; a ``HarnessError`` means a mistake of the user."""
    if isinstance(error, ForkFailedError):
        return error.failure
    text = str(error).encode(errors="backslashreplace").decode()
    return Failure(
        type=type(error).__name__,
        message=text[:_MOST_CHARACTERS],
        out_of_memory=is_out_of_memory(error),
        users_mistake=isinstance(error, HarnessError),
        is_unsupported=isinstance(error, UnsupportedError),
        place=_users_place(error),
    )


def _users_place(error: BaseException) -> str | None:
    """Return file, line and function of the innermost frame in user code; if none, in a library."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    shown = [f for f in frames if not f.filename.startswith(("<", _HARNESS))]
    own = [f for f in shown if not is_library(f.filename)]
    for frame in reversed(own or [f for f in shown if _PACKAGES.search(f.filename)]):
        name = "" if frame.name == "<module>" else f" in {frame.name}"
        return f"{_short(frame.filename)}:{frame.lineno}{name}"
    return None


def _short(file: str) -> str:
    """Return a path relative to the current folder; for a file elsewhere, its last two parts."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(Path(*path.parts[-2:]))

"""The exception that ended a job, as a message: kind, text, and the user's line that led to it."""

import sysconfig
import traceback
from pathlib import Path

from harness.measurement.process.messages import Failure
from harness.measurement.process.outcome import is_out_of_memory
from harness.schema.errors import HarnessError, UnsupportedError

_HARNESS = str(Path(__file__).resolve().parents[2])
_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_MOST_CHARACTERS = 2000


class ForkFailedError(Exception):
    """A call in a fork raised, or its process ended without a result."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """Return the failure that ``error`` is; an error of the harness is the user's mistake."""
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
    """Return file, line and function of the innermost frame of the user's, or of a library."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    own = [f for f in frames if "site-packages" not in f.filename]
    for frame in reversed(own or frames):
        name = "" if frame.name == "<module>" else f" in {frame.name}"
        return f"{_short(frame.filename)}:{frame.lineno}{name}"
    return None


def _is_ours(file: str) -> bool:
    inside = file.startswith(_STANDARD) and "site-packages" not in file
    return inside or file.startswith(("<", _HARNESS)) or "/torch/" in file


def _short(file: str) -> str:
    """Return the path from the current folder, or the last two parts of another one."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(Path(*path.parts[-2:]))

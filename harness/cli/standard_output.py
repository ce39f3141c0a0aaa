"""Handles standard output that is full, closed or without a reader.

If the reader of a pipe has ended, the command still ends with its own exit code. If the answer
cannot be written, ``Streams.problem`` returns the reason at the end.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from _typeshed import ReadableBuffer


class _Raw(io.FileIO):
    """A file whose writes never raise; the reason of a failed write is stored."""

    problem: str | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # whoever read our output has stopped reading
            pass
        except OSError as error:
            self.problem = self.problem or error.strerror
        return memoryview(data).nbytes


class _Closed(_Raw):
    def write(self, data: "ReadableBuffer", /) -> int:
        self.problem = "it is closed"
        return memoryview(data).nbytes


class Streams:
    """Standard output and error of this process."""

    def __init__(self) -> None:
        """Replace ``sys.stdout`` and ``sys.stderr`` by streams whose writes never raise.

        A closed standard descriptor is opened on /dev/null. If it stayed closed, the next opened
        file would get its number, and child processes would write their output into that file.
        """
        for number in (0, 1, 2):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        self._raw = (_Closed if sys.stdout is None else _Raw)(1, "w", closefd=False)
        sys.stdout = _text(self._raw, sys.stdout)
        sys.stderr = _text(_Raw(2, "w", closefd=False), sys.stderr)

    def problem(self) -> str | None:
        """Flush standard output; return the reason if it could not be written."""
        sys.stdout.flush()
        sys.stderr.flush()
        return self._raw.problem


@contextlib.contextmanager
def answer_alone(wanted: bool) -> Iterator[None]:
    """Send standard output of the block to standard error if ``wanted`` is true.

    An estimate runs the user's code in this process. Without the redirection, the output of the
    user's code would mix with the JSON answer.
    """
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _text(raw: _Raw, before: "TextIO | None") -> "TextIO":
    """Return a text stream on ``raw`` with the settings of the stream that it replaces."""
    settings: dict[str, Any] = {"encoding": "utf-8", "errors": "replace"}
    if isinstance(before, io.TextIOWrapper):
        names = ("encoding", "errors", "line_buffering", "write_through")
        settings = {name: getattr(before, name) for name in names}
        if before.errors == "strict":  # an answer is printed where its dashes have no byte
            settings["errors"] = "replace"
    return io.TextIOWrapper(io.BufferedWriter(raw), **settings)

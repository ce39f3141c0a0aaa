"""Runs the command ``harness``, and handles signals, closed pipes and the exit.

If the program that reads the output has ended, the command still returns its own exit code. After
Ctrl-C, SIGTERM or SIGHUP, the command removes its processes, cgroups and files, and exits with 128
plus the signal's number.
"""

import atexit
import codecs
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TYPE_CHECKING = False  # the module typing takes longer to load than all of this
if TYPE_CHECKING:
    from typing import Any, NoReturn, TextIO

    from _typeshed import ReadableBuffer

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_exit = os._exit
_FORCED = 3
"""Number of signals after which the process ends at once; the kernel then ends its children."""
_PATIENCE_SECONDS = 10.0
"""Seconds after which a new signal also raises StoppedError, in case code caught the first one."""


def main() -> int:
    """Load the command line, run it and return the exit code."""
    if sys.platform != "linux":
        rule = "the harness needs Linux; run it in a container (Getting started, Docker)"
        print(f"harness: {sys.platform}: {rule}", file=sys.stderr)
        return 2
    streams = Streams()
    codes: list[int] = []
    atexit.register(_end, codes, streams)  # before any other, so that it runs after all others
    with clean_stop() as stop:
        try:
            from harness.cli.app import main as run

            _keep_the_exit()
            codes.append(run())
        except BaseException:
            if stop.number is None:
                raise
    if stop.number is not None:  # whatever else went wrong on the way out
        codes[:] = [stop.exit_code]
    return codes[0]


def _keep_the_exit() -> None:
    """Make ``os._exit`` raise SystemExit if the user's code calls it.

    Python's own ``os._exit`` would end the command without an answer. In a forked process,
    ``os._exit`` still ends the process.
    """
    own = os.getpid()

    def leave(status: int) -> "NoReturn":
        if os.getpid() != own:
            _exit(status)
        raise SystemExit(status)

    os._exit = leave


def _end(codes: list[int], streams: "Streams") -> None:
    """End the process without freeing PyTorch's objects, because freeing takes half a second.

    When this function runs, all threads have ended and all other exit functions have run. After an
    uncaught exception, ``codes`` is empty, and Python reports the exception.
    """
    problem = streams.problem()
    if not codes:
        return
    if problem is not None:
        print(f"harness: standard output cannot be written: {problem}", file=sys.stderr, flush=True)
        codes[0] = codes[0] if codes[0] not in (0, 3) else 2
    _exit(codes[0])


class _Raw(io.FileIO):
    """A file whose writes never raise; the reason for a failed write is stored."""

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
        file would get the descriptor's number, and child processes would write into that file.
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
        """Flush standard output; return the reason if a write failed."""
        sys.stdout.flush()
        sys.stderr.flush()
        return self._raw.problem


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write a dash or a multiplication sign, which ASCII lacks, as - or x; other letters as ?."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "?") for letter in text), error.end


_PLAIN = {"\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\xd7": "x"}


def _text(raw: _Raw, before: "TextIO | None") -> "TextIO":
    """Return a text stream on ``raw`` that replaces the stream ``before``, with equal settings."""
    settings: dict[str, Any] = {"encoding": "utf-8", "errors": "replace"}
    if isinstance(before, io.TextIOWrapper):
        names = ("encoding", "errors", "line_buffering", "write_through")
        settings = {name: getattr(before, name) for name in names}
        if before.errors in ("strict", "surrogateescape"):
            codecs.register_error("plain", _plain)
            settings["errors"] = "plain"
    return io.TextIOWrapper(io.BufferedWriter(raw), **settings)


class StoppedError(KeyboardInterrupt):
    """Raised in the main thread when a signal asks this process to end."""


class Stop:
    """Handler of signals that ask this process to stop; it stores the first signal."""

    number: int | None = None
    """Number of the first signal; None until a signal arrives."""
    _count = 0
    _raised_at = 0.0

    @property
    def exit_code(self) -> int:
        """Return the exit code that a shell reports after the signal: 128 plus its number."""
        return 128 + (self.number or 0)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Raise ``StoppedError`` at the first signal; end the process at the third signal."""
        del frame
        self._count += 1
        first = self.number is None
        self.number = self.number or number
        if self._count >= _FORCED:
            _exit(self.exit_code)
        now = time.monotonic()
        if first or now - self._raised_at > _PATIENCE_SECONDS:
            self._raised_at = now
            raise StoppedError(signal.Signals(number).name)


@contextmanager
def clean_stop() -> Iterator[Stop]:
    """Raise ``StoppedError`` in the block if a signal asks this process to end.

    An ignored signal, such as SIGHUP under nohup, stays ignored. If a signal arrived, further
    signals are ignored after the block, because the process is already ending.
    """
    stop = Stop()
    before = {
        number: signal.signal(number, stop.receive)
        for number in _SIGNALS
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if stop.number is None else signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())

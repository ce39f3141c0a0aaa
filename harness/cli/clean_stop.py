"""Stops the process cleanly after Ctrl-C, SIGTERM or SIGHUP.

An exception in the main thread lets the code there remove its processes, cgroups and files.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
exit_now = os._exit  # ``entry`` puts another one in its place, for the user's code
_FORCED = 3
"""The third signal ends the process at once; the kernel then ends its child processes."""
_PATIENCE_SECONDS = 10.0
"""Seconds after which a further signal raises the exception again, in case code caught it."""


class StoppedError(KeyboardInterrupt):
    """Raised in the main thread when a signal asks this process to end."""


class Stop:
    """Handler of signals that ask this process to stop; it stores the first signal."""

    def __init__(self) -> None:
        self.number: int | None = None
        """Number of the first signal; None until a signal arrives."""
        self._count = 0
        self._raised_at = 0.0

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
            exit_now(self.exit_code)
        now = time.monotonic()
        if first or now - self._raised_at > _PATIENCE_SECONDS:
            self._raised_at = now
            raise StoppedError(signal.Signals(number).name)


@contextmanager
def clean_stop() -> Iterator[Stop]:
    """Raise ``StoppedError`` in the block if a signal asks this process to end.

    A signal that was ignored stays ignored, such as SIGHUP under nohup. If a signal arrived,
    further signals are ignored after the block, because the process is already ending. Outside the
    main thread, this function does nothing.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
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

"""Clean stop after Ctrl-C, SIGTERM or SIGHUP; the exit code is 128 plus the signal number.

The signal interrupts the main thread once, so that it removes processes, cgroups and files.
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
"""Number of the signal that ends the process at once; the kernel then ends its children."""
_PATIENCE_SECONDS = 10.0
"""Seconds after which another signal interrupts again, as code may catch the first interrupt."""


class StoppedError(KeyboardInterrupt):
    """A signal asked this process to end."""


class Stop:
    """The signal that asked this process to stop, if any."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The first signal; None until a signal arrives."""
        self._count = 0
        self._raised_at = 0.0

    @property
    def exit_code(self) -> int:
        """Return the exit code that a shell reports for a process that the signal ended."""
        return 128 + (self.number or 0)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the main thread once, so that it cleans up; end at the third signal."""
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
    """Interrupt the block by ``StoppedError`` if a signal asks this process to end.

    A signal that was ignored stays ignored, e.g. SIGHUP under nohup. If a signal has arrived, all
    signals are ignored after the block, because the process only has to end. Only the main thread
    receives signals.
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

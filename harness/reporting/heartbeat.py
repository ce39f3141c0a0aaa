"""A line each ten seconds on standard error, so that whoever reads a pipe or a log sees work."""

import sys
import threading
import time
from types import TracebackType

from harness.schema.plain_text import printable

SECONDS = 10.0
"""From the beginning to the first line, and from each line to the next."""


class Unthreaded:
    """Prints such a line where it hears of progress, for a process that must have no thread."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._begun = self._last = time.monotonic()

    def say(self, words: str) -> None:
        """Print the words, unless less than ten seconds went by since the last line."""
        now = time.monotonic()
        if words and now - self._last >= SECONDS:
            self._last = now
            _print(now - self._begun, f"{self._doing}{words}")


class Heartbeat:
    """Prints ``[20 s] WORDS`` while its block runs; ``words`` can change at any time."""

    def __init__(self, words: str) -> None:
        self.words = words
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        """Begin; a process that may start no thread goes on without."""
        try:
            self._thread.start()
        except RuntimeError:
            self._ended.set()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, at once."""
        self._ended.set()

    def _beat(self) -> None:
        while not self._ended.wait(SECONDS):
            _print(time.monotonic() - self._begun, self.words)


def _print(seconds: float, words: str) -> None:
    print(f"[{seconds:.0f} s] {printable(words)}", file=sys.stderr, flush=True)

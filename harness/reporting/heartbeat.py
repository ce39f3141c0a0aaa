"""Prints a line to standard error every five seconds to show that work continues."""

import sys
import threading
import time
from types import TracebackType

from harness.schema.plain_text import printable

SECONDS = 5.0
"""Seconds before the first line of a heartbeat, and between two lines."""


class Heartbeat:
    """Prints lines such as ``[20 s] WORDS`` during a ``with`` block; ``words`` may be changed."""

    def __init__(self, words: str) -> None:
        self.words = words
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Heartbeat":
        """Start the thread that prints the lines; if no thread can start, print nothing."""
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
        """End the thread that prints the lines."""
        self.end()

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(SECONDS):
            _print(time.monotonic() - self._begun, self.words)


class BeforeForks:
    """Prints a heartbeat until the first call of ``say``, and then prints the words of each call.

    The thread of the heartbeat ends at the first call, because a process that forks should not have
    other threads.
    """

    def __init__(self, doing: str, first: str) -> None:
        self._doing = doing
        self._beat: Heartbeat | None = Heartbeat(first)
        self._begun = self._last = time.monotonic()

    def __enter__(self) -> "BeforeForks":
        """Start the heartbeat."""
        assert self._beat is not None
        self._beat.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """End the thread, if it still runs."""
        self._end_thread()

    def say(self, words: str) -> None:
        """Print the words, if at least five seconds have passed since the last line."""
        self._end_thread()
        now = time.monotonic()
        if words and now - self._last >= SECONDS:
            self._last = now
            _print(now - self._begun, f"{self._doing}{words}")

    def _end_thread(self) -> None:
        if self._beat is not None:
            self._beat.end()
            self._beat = None


def _print(seconds: float, words: str) -> None:
    print(f"[{seconds:.0f} s] {printable(words)}", file=sys.stderr, flush=True)

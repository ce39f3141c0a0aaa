"""The first code of the command ``harness``, and the last.

A signal while it loads prints no traceback: next to nothing is imported before the handler is
set, because until then Python's own prints one. Even ``signal`` waits: it loads ``enum``, and its
built-in part does what is needed here.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub of it
import atexit
import os
import sys


def main() -> int:
    """Load the command line, and run it."""
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if ours:  # and not ignored, as a shell's background jobs ignore it
        _signal.signal(_signal.SIGINT, _leave)
    codes: list[int] = []
    atexit.register(_end, codes)  # before any other, so that it runs after all others
    from harness.cli.app import main as run

    try:
        if ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        codes.append(run())
    except KeyboardInterrupt:  # in the moment before the command line sets its own handlers
        codes.append(128 + int(_signal.SIGINT))
    return codes[0]


def _leave(number: int, frame: object) -> None:
    """End at once: nothing has begun yet."""
    del frame
    os._exit(128 + number)


def _end(codes: list[int]) -> None:
    """End without freeing a million objects one by one, which takes PyTorch's half a second.

    Threads have ended, and whatever else was to be done at the exit is done. An exception that
    nobody caught has left no code, and what cannot be written is Python's to report.
    """
    if not codes:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed from the beginning
            stream.flush()
    except (OSError, ValueError):  # the reader has gone, or it is closed
        return
    os._exit(codes[0])


if __name__ == "__main__":
    sys.exit(main())

"""The first code of the command ``harness``: a signal while it loads prints no traceback.

Next to nothing is imported before the handler is set: until then Python's own prints one.
"""

import os
import signal
import sys


def main() -> int:
    """Load the command line, and run it."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:  # and not ignored, as a shell's background jobs ignore it
        signal.signal(signal.SIGINT, _leave)
    from harness.cli.app import main as run

    try:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return run()
    except KeyboardInterrupt:  # in the moment before the command line sets its own handlers
        return 128 + signal.SIGINT


def _leave(number: int, frame: object) -> None:
    """End at once: nothing has begun yet."""
    del frame
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

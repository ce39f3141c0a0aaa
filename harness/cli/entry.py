"""The first code of the command ``harness``: a signal while it loads prints no traceback.

Next to nothing is imported before the handler is set: until then Python's own prints one.
Even ``signal`` waits: it loads ``enum``, and its built-in part does what is needed here.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub of it
import os
import sys


def main() -> int:
    """Load the command line, and run it."""
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if ours:  # and not ignored, as a shell's background jobs ignore it
        _signal.signal(_signal.SIGINT, _leave)
    from harness.cli.app import main as run

    try:
        if ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        return run()
    except KeyboardInterrupt:  # in the moment before the command line sets its own handlers
        return 128 + int(_signal.SIGINT)


def _leave(number: int, frame: object) -> None:
    """End at once: nothing has begun yet."""
    del frame
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

"""Start and end of the command ``harness``.

Ctrl-C does not print a traceback while the command loads. Python's handler of SIGINT would print a
traceback, so this file replaces the handler before it imports large modules. The file imports
``_signal`` instead of ``signal``, because ``signal`` loads ``enum``.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stub of it
import atexit
import os
import sys

TYPE_CHECKING = False  # the module typing takes longer to load than all of this
if TYPE_CHECKING:
    from typing import NoReturn

    from harness.cli.standard_output import Streams

_exit = os._exit


def main() -> int:
    """Load the command line, run it and return the exit code."""
    if sys.platform != "linux":
        rule = "the harness needs Linux; run it in a container (Getting started, Docker)"
        print(f"harness: {sys.platform}: {rule}", file=sys.stderr)
        return 2
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if ours:  # and not ignored, as a shell's background jobs ignore it
        _signal.signal(_signal.SIGINT, _leave)
    from harness.cli.standard_output import Streams

    streams = Streams()
    codes: list[int] = []
    atexit.register(_end, codes, streams)  # before any other, so that it runs after all others
    from harness.cli.app import main as run

    _keep_the_exit()
    try:
        if ours:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        codes.append(run())
    except KeyboardInterrupt:  # in the moment before the command line sets its own handlers
        codes.append(128 + int(_signal.SIGINT))
    return codes[0]


def _leave(number: int, frame: object) -> None:
    """Handle Ctrl-C before any work has begun: end the process at once."""
    del frame
    _exit(128 + number)


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


if __name__ == "__main__":
    sys.exit(main())

"""The first code of the command ``harness``: a signal while it loads prints no traceback."""

import signal
import sys


def main() -> int:
    """Load the command line, and run it."""
    from harness.cli.clean_stop import leave

    signal.signal(signal.SIGINT, leave)
    from harness.cli.app import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

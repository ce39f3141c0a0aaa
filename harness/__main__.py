"""``python -m harness`` runs the command line, even if ``harness`` is not on the PATH."""

import sys

from harness.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())

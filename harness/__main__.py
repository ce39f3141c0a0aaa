"""``python -m harness``: the command line, if its script is not on the path."""

import sys

from harness.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())

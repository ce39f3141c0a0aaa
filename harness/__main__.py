"""``python -m harness`` runs the command line, also if the script is not on the path."""

import sys

from harness.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())

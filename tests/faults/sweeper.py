"""The coordinator that faults are injected into: ``python -m tests.faults.sweeper OUT CELLS``."""

import sys
from pathlib import Path

from harness.processes import launcher
from harness.reporting.progress import Lines
from harness.schema.experiment import Size
from harness.sweeps import sweep
from tests.faults.grid import experiment


def main() -> None:
    """Run the sweep with short patience, so that frozen processes cost seconds."""
    launcher.FORK_SECONDS = 2.0
    launcher.GRACE_SECONDS = 2.0
    cells = experiment(int(sys.argv[2]))
    sweep.run(cells, Size.QUICK, Path(sys.argv[1]), Lines(), deadline_seconds=4.0)


if __name__ == "__main__":
    main()

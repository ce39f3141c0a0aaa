"""The record of ``make cuda``: the quick experiments, and predictions against measurement.

    python -m benchmarks.validation.on_gpu --out results

Writes into ``results/<name of the GPU>/``; exit code 1 if a requested peak differs from its
prediction by a byte. Reserved peaks may differ by a segment: free blocks of one size are stated
apart by addresses, which are the driver's.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.validation.compare_predictions import compare, workloads, write_tables
from harness.cli.app import main as harness


def main() -> int:
    """Measure, predict and write; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    arguments = parser.parse_args()
    comparisons = list(compare(workloads()))
    facts = comparisons[0].record.environment
    folder = arguments.out / re.sub(r"[^a-z0-9]+", "-", facts["gpu"].lower()).strip("-")
    where = f"on one {facts['gpu']}, driver {facts['driver']}"
    write_tables(comparisons, folder, where=where, written_by="benchmarks/validation/on_gpu.py")
    code = harness(["sweep", "--quick", "--device", "cuda", "--out", str(folder)])
    code = code or harness(["report", str(folder)])
    requested = [one.peak("requested") for one in comparisons]
    return code or int(any(measured != predicted for measured, predicted in requested))


if __name__ == "__main__":
    sys.exit(main())

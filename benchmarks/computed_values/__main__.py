"""Compares all of PyTorch's operators, modules and optimizers on a pretended GPU with the CPU.

python -m benchmarks.computed_values --out results/operators

Results are appended to a journal as they come: a run that was stopped goes on where it stopped.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.computed_values import operator_table
from benchmarks.computed_values.comparison import WRONG
from benchmarks.computed_values.journal import Journal, Origin
from benchmarks.computed_values.pretended_run import Part, run_part

GROUPS = ("operators", "modules", "optimizers")
JOURNAL = Path("build/operators.jsonl")


def main() -> None:
    """Run the groups and write their table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the table; default: only print it")
    parser.add_argument("--journal", type=Path, default=JOURNAL, help="file of the results so far")
    parser.add_argument("--samples", type=int, help="samples of each operator; all by default")
    parser.add_argument("--only", default="", help="cases whose names contain this text")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-run", action="store_true", help="only make the table of the journal")
    arguments = parser.parse_args()
    origin = Origin.now(arguments.samples, arguments.only)
    journal = Journal(arguments.journal.absolute(), origin, keep=arguments.no_run)
    began = time.monotonic()
    if not arguments.no_run:
        parts = [
            Part(group=group, part=number, parts=arguments.jobs)
            for group in arguments.groups
            for number in range(arguments.jobs)
        ]
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(partial(_run, journal=journal), parts))
    found = journal.results()
    if arguments.out:
        operator_table.write(found, journal.origin, arguments.out)
    else:
        print(operator_table.page(found, journal.origin))
    print(operator_table.summary(found), f"{time.monotonic() - began:.0f} s", file=sys.stderr)


def _run(part: Part, journal: Journal) -> None:
    """Run a part, and print each result that is not right as soon as it is known."""
    for one in run_part(part, journal):
        if one.outcome in WRONG:
            text = f"{one.name} {one.kind} {one.dtype}: {one.outcome}: {one.detail}"
            print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

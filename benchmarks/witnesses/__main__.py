"""Score predictors of memory on published measurements of real GPUs.

    python -m benchmarks.witnesses gpumemnet-mlps --fetch --rows 100

The command runs each predictor on the same random rows and prints its errors. Records are kept
under results/local/witnesses, so the same command with more rows runs only the new rows.
"""

import argparse
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.witnesses.clones import CloneError, clone_of
from benchmarks.witnesses.published import publish
from benchmarks.witnesses.rows import source_named
from benchmarks.witnesses.runner import drawn, needs_gpu, predictor_named, run
from benchmarks.witnesses.scores import HEADS, scored, table

HERE = Path(__file__).parent
KEPT = Path("results/local/witnesses")


def names_in(folder: str) -> list[str]:
    """Return the names of a folder's modules for the command line."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules([str(HERE / folder)]))


def main() -> int:
    options = _options()
    source = source_named(options.source)
    try:
        clone = clone_of(source, options.clone, options.out / "clones", fetch=options.fetch)
        rows = drawn(source.rows(clone), options.seed)[: options.rows]
    except CloneError as error:
        print(error, file=sys.stderr)
        return 2
    if options.child:
        path = options.out / source.name / f"{options.child}.jsonl"
        rows = [row for row in rows if options.gpu in ("", row.gpu or source.gpu)]
        run(rows, predictor_named(options.child), path, until=options.until)
        return 0
    until = time.time() + 60 * options.minutes
    for name in options.predictors if options.minutes else ():
        begin = time.monotonic()
        pretends = needs_gpu(name) and not source.scripts
        for gpu in sorted({row.gpu or source.gpu for row in rows}) if pretends else [""]:
            code = _in_child(gpu, ["--until", str(until), "--child", name, "--gpu", gpu])
            if code:
                print(f"{name}: ended with exit code {code}", file=sys.stderr)
        if options.verbose:
            print(f"{name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    print(table([HEADS, *scored(rows, options.out / source.name, options.predictors)]))
    if options.publish:
        publish(rows, options.out / source.name, Path(f"results/witnesses/{source.name}.csv"))
    return 0


def _in_child(gpu: str, arguments: list[str]) -> int:
    """Run one predictor in a separate process, which sees a pretended GPU if it is named."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if gpu:
        from benchmarks.validation.dry_run import environment_on
        from harness.dry_runs.pretended_gpu import pretended_gpu

        environment = environment_on(pretended_gpu(gpu))
    command = [sys.executable, "-m", "benchmarks.witnesses", *sys.argv[1:], *arguments]
    return subprocess.call(command, env=environment)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("source", choices=names_in("sources"))
    parser.add_argument("--rows", type=int, help="number of random rows (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the order of the rows")
    parser.add_argument(
        "--predictors", nargs="+", choices=names_in("predictors"), metavar="NAME",
        default=["dry-run"], help=f"predictors to run: {', '.join(names_in('predictors'))}",
    )  # fmt: skip
    parser.add_argument("--clone", type=Path, help="folder with a clone of the source")
    parser.add_argument(
        "--fetch", action="store_true", help="clone the source with git if it is missing"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=1e6,
        help="minutes after which no row begins; with 0 only known answers are scored",
    )
    parser.add_argument("--out", type=Path, default=KEPT, help="folder of the records")
    parser.add_argument("--publish", action="store_true", help="write results/witnesses")
    parser.add_argument(
        "--verbose", action="store_true", help="print the seconds that each predictor takes"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--gpu", default="", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter of help that keeps the lines of the description."""


if __name__ == "__main__":
    sys.exit(main())

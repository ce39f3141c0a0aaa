"""Run public training scripts on a pretended GPU: without values, with trials, and with values.

    python -m benchmarks.public_scripts --clones DIR [--only TEXT]

The command writes ``public-scripts.csv`` and its page. DIR/NAME is a clone of each repository of
``scripts.toml``, bare or not. It stays unchanged, because each script runs in a copy of its commit.
A script without a clone keeps its row. The exit code is 1 if a script has no answer, or if the
peaks of the single run and of the computed run are not among those of the trials.
"""

import argparse
import csv
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.dry_run_answers import without_places
from benchmarks.public_scripts.script_table import RUNS, scripts_page
from benchmarks.public_scripts.stand_ins import make
from benchmarks.public_scripts.timed_runs import TimedRun, timed_run
from benchmarks.witnesses.clones import CloneError, extract

_PUBLIC: Mapping[str, Any] = tomllib.loads(Path(__file__).with_name("scripts.toml").read_text())
REPOSITORIES: Mapping[str, Mapping[str, Any]] = _PUBLIC["repositories"]
SCRIPTS: Sequence[Mapping[str, Any]] = _PUBLIC["scripts"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clones", type=Path, metavar="DIR", required=True, help="their folder")
    parser.add_argument("--out", type=Path, default=Path("results/cuda-dry-run"))
    parser.add_argument("--only", default="", metavar="TEXT", help="commands that have this")
    options = parser.parse_args()
    results = options.out / "public-scripts.csv"
    rows = {key_of(row): row for row in read_rows(results)}
    bad: list[str] = []
    for script in SCRIPTS:
        if options.only not in " ".join(key_of(script_facts(script))):
            continue
        try:
            row = row_of(script, options.clones.resolve())
        except CloneError as error:
            print(f"{script_facts(script)['command']} is left out: {error}", flush=True)
            continue
        rows[key_of(row)] = row
        bad += faults(row)
        seconds = (f"{which} {row[f'{which}_wall_seconds']} s" for which in RUNS)
        print(f"{row['command']}: {row['outcome']}, {', '.join(seconds)}", flush=True)
        ordered = [rows[key] for one in SCRIPTS if (key := key_of(script_facts(one))) in rows]
        write_rows(results, ordered)
        results.with_suffix(".md").write_text(scripts_page(read_rows(results)))
    for line in bad:
        print(line)
    return 1 if bad else 0


def key_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key of a row."""
    return row["repository"], row["command"]


def script_facts(script: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that a script has before it runs."""
    return {
        "repository": script["repository"],
        "commit": REPOSITORIES[script["repository"]]["commit"],
        "command": str(Path(script["folder"]) / script["command"]),
        "gpu": script.get("gpu", "l4"),
    }


def row_of(script: Mapping[str, Any], clones: Path) -> dict[str, Any]:
    """Run a script in each way; return the answers and the seconds."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place).resolve()
        unpack(script, clones, root)
        for data in script.get("data", ()):
            make(root, data)
        runs = {  # in this order: a cold cache counts against the trials
            "all": timed_run(root, script, try_values=True, compute="none"),
            "one": timed_run(root, script, try_values=False, compute="none"),
            "computed": timed_run(root, script, try_values=True, compute="auto"),
        }
        answers = {which: answered(run, root) for which, run in runs.items()}
        seconds = {
            f"{which}_{clock}_seconds": round(getattr(runs[which], f"{clock}_seconds"), 2)
            for clock in ("wall", "processor")
            for which in RUNS
        }
        return {
            **script_facts(script),
            **answers["all"],
            "one_reserved_bytes": answers["one"]["highest_reserved_bytes"],
            "computed_lowest_bytes": answers["computed"]["lowest_reserved_bytes"],
            "computed_highest_bytes": answers["computed"]["highest_reserved_bytes"],
            "computed_runs": answers["computed"]["runs"],
            "computed_values": values_computed(runs["computed"]),
            **seconds,
            "foreign_seconds": round(sum(run.foreign_seconds for run in runs.values()), 2),
            "processors": len(os.sched_getaffinity(0)),
            "date": time.strftime("%Y-%m-%d"),
        }


def unpack(script: Mapping[str, Any], clones: Path, root: Path) -> None:
    """Copy a repository's commit from its clone, and leave out the files that stand-ins replace."""
    name, repository = script["repository"], REPOSITORIES[script["repository"]]
    clone = clones / name.rpartition("/")[2]
    if not clone.is_dir():
        raise CloneError(f"{clone} is not there; it is a clone of {name}")
    left_out = [*repository.get("without", ()), *(one["into"] for one in script.get("data", ()))]
    paths = [".", *(f":(exclude){path}" for path in left_out)]
    extract(clone, repository["commit"], paths, root)


def answered(run: TimedRun, root: Path) -> dict[str, Any]:
    """Return the columns of a report, or of an error without a report."""
    report = run.report or {"outcome": "error", "evidence": run.failed, "cuda": {}}
    unknown = report.get("unknown") or {"runs": 1, "moves": False}
    ends = {end: unknown.get(end) or report["cuda"] for end in ("lowest", "highest")}
    return {
        "torch": report.get("environment", {}).get("torch", ""),
        "outcome": report["outcome"],
        "fit": report.get("fit"),
        "evidence": without_places(report["evidence"], root),
        "steps": report.get("optimizer_steps", 0),
        **{
            f"{end}_{name}_bytes": ends[end].get(f"{name}_peak_bytes")
            for name in ("allocated", "reserved")
            for end in ends
        },
        "runs": unknown["runs"],
        "moves": "yes" if unknown["moves"] else "no",
    }


def faults(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a row."""
    if row["outcome"] != "ok":
        yield f"{row['command']}: {row['outcome']}: {row['evidence']}"
        return
    for name in ("one_reserved_bytes", "computed_lowest_bytes", "computed_highest_bytes"):
        if not row["lowest_reserved_bytes"] <= (row[name] or 0) <= row["highest_reserved_bytes"]:
            yield f"{row['command']}: {name} is {row[name]}, which is not among those of all runs"


def values_computed(run: TimedRun) -> str:
    """Return which values were computed: ``all``, ``for N steps``, or ``-`` for none."""
    computed = (run.report or {}).get("computed") or {}
    if not computed.get("operators"):
        return "-"
    after = computed.get("stopped_after_step")
    return "all" if after is None else f"for {after} step{'s' * (after != 1)}"


def read_rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table; none if the file is missing."""
    if not file.exists():
        return []
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with file.open("w", newline="") as text:
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())

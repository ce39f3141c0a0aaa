"""Run unmodified GPU tests of upstream projects on a pretended GPU.

    python -m benchmarks.upstream --torchtitan DIR --pytorch DIR

The command writes ``results/upstream`` with each test's result, peak and seconds. ``suites.toml``
names the test files, and the causes of failures that are not defects of the dry run. The exit code
is 1 if a test failed without such a cause.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.dry_run_answers import answer_of, without_places
from benchmarks.upstream.tables import results_page

HERE = Path(__file__).parent
SUITES: Mapping[str, Any] = tomllib.loads((HERE / "suites.toml").read_text())
PROJECTS = tuple(dict.fromkeys(suite["project"] for suite in SUITES["suite"]))
_NO_RUN = "(the run)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for project in PROJECTS:
        parser.add_argument(f"--{project}", type=Path, metavar="DIR", help=f"a clone of {project}")
    parser.add_argument("--out", type=Path, default=Path("results/upstream"))
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose name has this")
    options = parser.parse_args()
    clones = {name: getattr(options, name) for name in PROJECTS}
    for name in [name for name, clone in clones.items() if clone is None]:
        print(f"{name} is left out: give its clone with --{name} DIR", flush=True)
    given = {name: clone.resolve() for name, clone in clones.items() if clone is not None}
    results = options.out / "results.json"
    kept = json.loads(results.read_text()) if results.exists() else {"projects": {}, "tests": []}
    rows = list(_results(given, options.only))
    ran = {(row["project"], row["file"]) for row in rows}
    rest = [row for row in kept["tests"] if (row["project"], row["file"]) not in ran]
    kept["tests"] = sorted([*rest, *rows], key=lambda row: (row["project"], row["file"]))
    kept["projects"] |= {name: _commit(clone) for name, clone in given.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(kept, indent=1) + "\n")
    (options.out / "README.md").write_text(results_page(kept))
    bad = [row for row in rows if row["outcome"] == "failed" and not row["cause"]]
    for row in bad:
        print(f"failed: {row['file']} {row['test']}: {row['why']}")
    return 1 if bad else 0


def _results(clones: Mapping[str, Path], only: str) -> Iterator[dict[str, Any]]:
    """Yield the result of each test in the given clones."""
    for suite in SUITES["suite"]:
        for file in suite["files"] if suite["project"] in clones else ():
            folder = clones[suite["project"]] / suite["folder"]
            path = folder / file
            if only not in file:
                continue
            if not path.exists():
                print(f"{file} is left out: the clone has no such file", flush=True)
                continue
            print(f"{suite['project']}: {file}", flush=True)
            report = dry_run_of(folder, file, suite)
            place = str(Path(suite["folder"]) / file)
            facts = {"project": suite["project"], "file": place, "blob": _blob(path)}
            facts |= {"gpu": f"{suite['gpus']} x {suite['gpu']}", **report["environment"]}
            yield from (facts | row for row in rows_of(report, clones[suite["project"]]))


def dry_run_of(folder: Path, file: str, suite: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report of the tests of one file, run in a folder."""
    words = ["--gpu", suite["gpu"], "--gpus", str(suite["gpus"])]
    words += ["--deadline", str(suite["seconds"]), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return answer_of([*words, file], folder)[0]


def rows_of(report: Mapping[str, Any], clone: Path) -> list[dict[str, Any]]:
    """Return a row for each test of a report; a row for the run if it has no tests."""
    tests = report["tests"] or [
        {"name": _NO_RUN, "outcome": "failed", "why": report["evidence"], "seconds": 0.0}
    ]
    return [
        {
            "test": one["name"].rpartition(".py::")[2],
            "outcome": one["outcome"],
            "why": without_places(one.get("why"), clone),
            "cause": cause_of(one) if one["outcome"] == "failed" else None,
            "requested_peak_bytes": one.get("requested_peak_bytes"),
            "seconds": round(one["seconds"], 1),
        }
        for one in tests
    ]


def cause_of(test: Mapping[str, Any], causes: Sequence[Mapping[str, str]] | None = None) -> Any:
    """Return the known cause of a failure; None if there is none."""
    for cause in SUITES["cause"] if causes is None else causes:
        if cause["test"] in test["name"] and cause["says"] in (test.get("why") or ""):
            return cause["why"]
    return None


def _commit(clone: Path) -> str:
    words = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown (files without a repository)"


def _blob(path: Path) -> str:
    """Return git's hash of a file's contents, which is the same in any clone."""
    words = ["git", "hash-object", "--no-filters", str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())

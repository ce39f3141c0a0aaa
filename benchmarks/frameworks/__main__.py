"""Train with other frameworks on pretended GPUs, and compare their bytes with closed forms.

    python -m benchmarks.frameworks [--torchtitan DIR] [--only TEXT]

The command writes ``results/frameworks``. Scripts whose packages are not installed are left out,
and keep their rows. The exit code is 1 if a script has no answer, or if a reading differs from its
closed form.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.dry_run_answers import answer_of, without_places
from benchmarks.frameworks.closed_forms import CLOSED_FORMS
from benchmarks.frameworks.framework_table import results_page

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/frameworks"
SCRIPTS: Sequence[Mapping[str, Any]] = tomllib.loads(
    Path(__file__).with_name("frameworks.toml").read_text()
)["script"]
_READING = re.compile(r"^(\w.*): (\d+) bytes$", re.M)
_PEAKS = ("requested_peak_bytes", "reserved_peak_bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torchtitan", type=Path, metavar="DIR", help="a clone of torchtitan")
    parser.add_argument("--out", type=Path, default=Path("results/frameworks"))
    parser.add_argument("--only", default="", metavar="TEXT", help="commands that have this")
    options = parser.parse_args()
    results = options.out / "results.json"
    known = json.loads(results.read_text()) if results.exists() else []
    rows = {row["command"]: row for row in known}
    options.out.mkdir(parents=True, exist_ok=True)
    bad = []
    for script in SCRIPTS:
        if options.only not in script["command"]:
            continue
        if why := left_out(script, options.torchtitan):
            print(f"{script['command']} is left out: {why}", flush=True)
            continue
        print(script["command"], flush=True)
        row = rows[script["command"]] = row_of(script, options.torchtitan)
        bad += faults(row)
        ordered = [rows[one["command"]] for one in SCRIPTS if one["command"] in rows]
        results.write_text(json.dumps(ordered, indent=1) + "\n")
        (options.out / "README.md").write_text(results_page(ordered))
    for line in bad:
        print(line)
    return 1 if bad else 0


def left_out(script: Mapping[str, Any], clone: Path | None) -> str | None:
    """Return why a script cannot run here; None if it can."""
    missing = [name for name in script["packages"] if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if script.get("clone") and clone is None:
        return "it needs a clone: --torchtitan DIR"
    return None


def row_of(script: Mapping[str, Any], clone: Path | None = None) -> dict[str, Any]:
    """Run a script, in a separate folder or in a clone; return its answer."""
    file, *arguments = script["command"].split()
    words = ["--gpu", script.get("gpu", "l4"), *script.get("options", "").split(), "--"]
    words += [*script.get("launcher", "").split(), str(EXAMPLES / file), *arguments]
    os.environ |= {"HF_HUB_OFFLINE": "1"} | script.get("environment", {})
    with tempfile.TemporaryDirectory() as folder:
        place = clone.resolve() if clone is not None and script.get("clone") else Path(folder)
        report, printed = answer_of(words, place)
    for name in script.get("environment", {}):
        del os.environ[name]
    read = {name: int(size) for name, size in _READING.findall(printed)}
    return {
        **{name: script[name] for name in ("framework", "what", "command")},
        "gpu": script.get("gpu", "l4"),
        "options": script.get("options", ""),
        "versions": versions(script["packages"]),
        "torch": report["environment"].get("torch"),
        "outcome": report["outcome"],
        "evidence": without_places(report["evidence"], place),
        "verdict": report["fit"],
        **{name: report["cuda"][name] for name in _PEAKS},
        "unknown": _range(report["unknown"], place),
        "notes": [without_places(note, place) for note in report["notes"]],
        "readings": [_reading(script["command"], *one) for one in sorted(read.items())],
        "seconds": round(report["wall_seconds"], 1),
    }


def faults(row: Mapping[str, Any]) -> list[str]:
    """Return the faults of a row, e.g. a reading that differs from its closed form."""
    said = []
    if row["outcome"] != "ok":
        said.append(f"{row['command']}: {row['outcome']}: {row['evidence']}")
    expected = set(CLOSED_FORMS.get(row["command"], {}))
    if missing := expected - {one["name"] for one in row["readings"]}:
        said.append(f"{row['command']}: not printed: {', '.join(sorted(missing))}")
    said += [
        f"{row['command']}: {one['name']}: {one['bytes']:,} B, not {one['expected_bytes']:,}"
        for one in row["readings"]
        if one["bytes"] != one["expected_bytes"]
    ]
    return said


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each package."""
    return {name: importlib.metadata.version(name) for name in packages}


def _reading(command: str, name: str, size: int) -> dict[str, Any]:
    """Return a reading with its closed form."""
    form = CLOSED_FORMS[command][name]
    return {
        "name": name,
        "bytes": size,
        "formula": form.formula,
        "formula_bytes": form.bytes,
        "added": dict(form.added),
        "expected_bytes": form.total,
    }


def _range(unknown: Mapping[str, Any] | None, place: Path) -> dict[str, Any] | None:
    """Return the range of the peaks over unknown values, and the lines that read the values."""
    if unknown is None:
        return None
    ends = {name: [unknown[end][name] for end in ("lowest", "highest")] for name in _PEAKS}
    lines = [without_places(line, place) for line in unknown["lines"]]
    return {"moves": unknown["moves"], "lines": lines, **ends}


if __name__ == "__main__":
    sys.exit(main())

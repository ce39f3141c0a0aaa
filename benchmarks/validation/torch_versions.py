"""Run the version-dependent tests with one version of PyTorch, or with each known version.

    python3 -m benchmarks.validation.torch_versions 2.15
    python3 -m benchmarks.validation.torch_versions all --record

Each version gets its own environment, made by the current Python. Local configuration of pip is
ignored, so that pip installs the same packages as on a new machine. With ``--record`` the results
are saved in ``results/torch-versions.json``, and ``results/torch-versions.md`` is made from it;
versions that are not run keep their rows. The exit code is 1 if a test failed, and 4 if pip could
not install a version. The script needs only the standard library.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.prediction.torch_environments import InstallError, make_environment
from harness.prediction.versions import CHANGES, KNOWN, NEWEST, TorchVersion

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results" / "torch-versions.json"
TABLE = KEPT.with_suffix(".md")

TESTS = (
    "tests/prediction/test_trace_property.py", "tests/prediction/test_cpu_trace.py",
    "tests/instruments/test_allocation_trace.py", "tests/measurement/test_module_trace.py",
    "tests/measurement/test_model_check.py", "tests/thresholds/test_find_threshold.py",
    "tests/dry_runs/test_training_script.py",
)  # fmt: skip
"""Tests that compare the model, an instrument or a dry run with PyTorch exactly, e.g. events, drawn
workloads, saved bytes and thresholds."""

IN_SHORT = """torch {torch}: {passed} passed, {failures} failed, {skipped} skipped; installed in \
{install_seconds} s, tested in {test_seconds} s; {equal} of {workloads} tiny workloads equal"""

ALL = "all"
TEST_FAILED, NOT_INSTALLED = 1, 4
INSTALL_SECONDS = 600
"""Seconds that pip may take to install 3 GB, usually in 90 s; an index that needs longer has
stalled."""


HEAD = """# The memory model by version of PyTorch

`make test-versions` writes this file. Each version has its own environment, as pip installs it on
Linux x86-64 without local configuration (CUDA builds, run without a GPU). A tiny workload of
`harness doctor --check-model` is *equal* if the saved bytes and all events are as predicted. The
order, operator, module, category, size and block of each event must be the same. The tests compare
predicted events, saved tensors, module profiles and thresholds with measurements. They also compare
the allocation trace with PyTorch's MemTracker. Since December 2026 they also compare the dry run of
a script with PyTorch's own counters.
"""
COLUMNS = ["torch", "Python", "tests passed", "failed", "skipped", "drawn workloads"]
COLUMNS += ["tiny workloads equal", "seconds"]


def main() -> int:
    """Run the requested versions; return the worst exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("torch", nargs="+", help="versions such as 2.15, 'latest', or 'all'")
    parser.add_argument("--examples", type=int, help="drawn workloads; 500 on the newest, else 60")
    parser.add_argument("--record", action="store_true", help="keep what was found in results/")
    parser.add_argument("--keep", action="store_true", help="keep the environment (about 7 GB)")
    options = parser.parse_args()
    texts = [str(version) for version in KNOWN] if options.torch == [ALL] else options.torch
    codes = [0]
    for text in texts:
        try:
            result = run(text, options.examples, keep=options.keep)
        except InstallError as error:
            print(f"torch {text}: not installed, {error}", flush=True)
            codes.append(NOT_INSTALLED)
            continue
        print(IN_SHORT.format(failures=len(result["failed"]), **result), flush=True)
        differs = result["known"] and result["equal"] != result["workloads"]
        codes.append(TEST_FAILED if result["failed"] or differs else 0)
        if options.record and result["known"]:
            keep_result(result)
    return TEST_FAILED if TEST_FAILED in codes else max(codes)


def run(text: str, examples: int | None, *, keep: bool) -> dict[str, Any]:
    """Make the environment, run the tests in it, and return the results."""
    folder = ROOT / f".venv-torch-{text}"
    started = time.monotonic()
    try:
        harness = ("--editable", f"{ROOT}[test]")
        python = make_environment(folder, text, harness, seconds=INSTALL_SECONDS)
        installed = time.monotonic()
        facts = described(python)
        version = TorchVersion.parse(facts["torch"])
        count = examples or (500 if version >= NEWEST else 60)
        print(f"torch {facts['torch']}, Python {facts['python']}: {count} drawn workloads")
        result = {
            **facts,
            "version": str(version),
            "known": version in KNOWN,
            "drawn": count,
            "install_seconds": round(installed - started),
            **run_tests(python, folder, count),
            **run_check(python),
        }
        return result | {"test_seconds": round(time.monotonic() - installed)}
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def described(python: Path) -> dict[str, str]:
    """Return the installed versions and the processor."""
    code = "import torch, torchvision; print(torch.__version__, torchvision.__version__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    torch, torchvision = done.stdout.split()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    fields = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = fields.get("flags", "").split()
    has = [name for name in ("avx512_bf16", "amx_bf16") if name in flags]
    return {
        "torch": torch,
        "torchvision": torchvision,
        "python": platform.python_version(),
        "processor": f"{fields.get('model name', platform.machine())} "
        f"({', '.join(has) or 'no bfloat16'})",
        "date": time.strftime("%Y-%m-%d"),
    }


def run_tests(python: Path, folder: Path, examples: int) -> dict[str, Any]:
    """Run ``TESTS``; return the number of passed tests and the names of failed tests."""
    report = folder / "tests.xml"
    options = ("-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-m", "exact")
    two_processes = ("-n", "2", "--dist", "loadfile")  # as make test
    command = [str(python), "-m", "pytest", *options, *two_processes, *TESTS]
    environment = os.environ | {"HARNESS_EXAMPLES": str(examples)}
    subprocess.run(command, cwd=ROOT, env=environment, check=False)
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    return {"passed": passed, "skipped": skipped, "failed": failed}


def run_check(python: Path) -> dict[str, int]:
    """Return the numbers of workloads that ``doctor --check-model`` compares and finds equal."""
    command = [str(python), "-m", "harness", "doctor", "--check-model", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    detail = json.loads(done.stdout)["findings"][0]["detail"]
    equal, workloads = re.findall(r"(\d+) of (\d+) workloads equal", detail)[0]
    return {"workloads": int(workloads), "equal": int(equal)}


def keep_result(result: dict[str, Any]) -> None:
    """Save the result next to the results of other versions, and make the table again."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept[result["version"]] = result
    order = sorted(kept, key=TorchVersion.parse)
    KEPT.write_text(json.dumps({name: kept[name] for name in order}, indent=1) + "\n")
    TABLE.write_text(render([kept[name] for name in order]))


def render(results: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    processors = "; ".join(dict.fromkeys(each["processor"] for each in results))
    changes = (
        f"- Since {change.since}, {change.after}. Before, {change.before}." for change in CHANGES
    )
    lines = (COLUMNS, ["---"] * len(COLUMNS), *map(_row, results))
    table = "\n".join("| " + " | ".join(row) + " |" for row in lines)
    parts = (HEAD, table, f"\nProcessor: {processors}.\n", "## Changes\n")
    return "\n".join((*parts, *changes, ""))


def _row(result: dict[str, Any]) -> list[str]:
    differs = any("test_trace_property" in name for name in result["failed"])
    return [
        result["torch"],
        result["python"],
        str(result["passed"]),
        ", ".join(result["failed"]) or "0",
        str(result["skipped"]),
        f"{result['drawn']}, {'with a difference' if differs else 'none differs'}",
        f"{result['equal']} of {result['workloads']}",
        str(result["test_seconds"]),
    ]


if __name__ == "__main__":
    sys.exit(main())

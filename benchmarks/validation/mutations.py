"""Break the code on purpose, once per package, and check whether the quick tests fail.

    python -m benchmarks.validation.mutations [PACKAGE ...]

Each mutation is one small mistake in a temporary copy of the repository. The quick tests of the
packages that could fail run there; for at least nine of ten mutations, a test must fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("harness", "experiments", "tests", "benchmarks", "docs", "examples", "results")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mistake, which replaces ``old``, found once in ``file``, by ``new``."""

    package: str
    mistake: str
    file: str
    old: str
    new: str
    tests: list[str]


MUTATIONS = tuple(
    Mutation(**each)
    for each in tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["mutation"]
)


@contextmanager
def copy() -> Iterator[Path]:
    """Yield a copy of the repository, without files that git ignores."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", "local", ".lock")
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=ignored)
        for name in FILES:
            shutil.copy(ROOT / name, folder)
        yield Path(folder)


def noticing_test(mutation: Mutation, place: Path) -> str | None:
    """Return a quick test that fails only because of the mistake; None if there is none."""
    file = place / mutation.file
    right = file.read_text()
    if right.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.file}: {mutation.old!r} must occur once; change the mutation")
    without: list[str] = []
    while True:
        file.write_text(right.replace(mutation.old, mutation.new))
        test = failing_test(place, *mutation.tests, *without)
        file.write_text(right)
        if test is None or failing_test(place, test) is None:
            return test
        without += ["--deselect", test]  # it fails anyway


def failing_test(place: Path, *arguments: str) -> str | None:
    """Return the first quick test that fails in a copy of the repository."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "--tb=no"]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 0:
        return None
    if done.returncode != 1 or not failed:
        raise SystemExit(f"no test ran: {arguments}: {done.stdout[-500:]}{done.stderr}")
    return failed[0].partition(" ")[2].partition(" - ")[0]


def main() -> int:
    """Print the test that fails for each mistake; return 1 if more than a tenth stay unnoticed."""
    chosen = [each for each in MUTATIONS if not sys.argv[1:] or each.package in sys.argv[1:]]
    missed = 0
    with copy() as place:
        for mutation in chosen:
            test = noticing_test(mutation, place)
            missed += test is None
            print(
                f"| {mutation.package} | {mutation.mistake} | {test or 'not noticed'} |", flush=True
            )
    print(f"{len(chosen) - missed} of {len(chosen)} are noticed")
    return int(not chosen or 10 * missed > len(chosen))


if __name__ == "__main__":
    sys.exit(main())

"""Break the code on purpose, once per package, and see whether the quick tests notice.

    python -m benchmarks.validation.mutations [PACKAGE ...]

Each mutation is one small mistake in a temporary copy of the repository. The quick tests of the
packages that could notice run there; at least nine of ten must fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("harness", "experiments", "tests", "benchmarks", "docs", "examples", "results")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mistake: ``old`` occurs once in ``file`` and becomes ``new``."""

    package: str
    mistake: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        package="schema",
        mistake="a unit is used only above its size",
        file="harness/schema/units.py",
        old="if magnitude >= factor:",
        new="if magnitude > factor:",
        tests=("tests/schema",),
    ),
    Mutation(
        package="training",
        mistake="gradients are freed in another phase",
        file="harness/training/training_step.py",
        old='with phase("optimizer"):\n        (built',
        new='with phase("forward"):\n        (built',
        tests=("tests/training", "tests/prediction/test_cpu_trace.py"),
    ),
    Mutation(
        package="instruments",
        mistake="a category is lost",
        file="harness/instruments/allocation_trace.py",
        old="return {storage.data_ptr(): category for",
        new='return {storage.data_ptr(): "temporary" for',
        tests=("tests/instruments", "tests/prediction/test_cpu_trace.py"),
    ),
    Mutation(
        package="allocator",
        mistake="a request of 1 MiB goes to the large pool",
        file="harness/allocator/model.py",
        old="self._small if rounded <= SMALL_REQUEST_BYTES",
        new="self._small if rounded < SMALL_REQUEST_BYTES",
        tests=("tests/allocator",),
    ),
    Mutation(
        package="prediction",
        mistake="the rule of an older version of PyTorch",
        file="harness/prediction/torch_rules.py",
        old='since=TorchVersion(2, 14),\n    operators=("MaximumBackward0",)',
        new='since=TorchVersion(2, 99),\n    operators=("MaximumBackward0",)',
        tests=("tests/prediction/test_versions.py", "tests/prediction/test_cpu_trace.py"),
    ),
    Mutation(
        package="measurement",
        mistake="any killed process ran out of memory",
        file="harness/measurement/process/outcome.py",
        old="if number == signal.SIGKILL and ended.oom_kills:",
        new="if number == signal.SIGKILL:",
        tests=("tests/measurement/test_outcome.py", "tests/measurement/test_launcher.py"),
    ),
    Mutation(
        package="thresholds",
        mistake="the search stops one value early",
        file="harness/thresholds/search.py",
        old="return self.fails - self.fits <= 1",
        new="return self.fails - self.fits <= 2",
        tests=("tests/thresholds",),
    ),
    Mutation(
        package="planning",
        mistake="the largest batch surely fits only where little lies outside the allocator",
        file="harness/planning/step_search.py",
        old="self._own.accumulate, gpu.total_bytes - gpu.outside_bytes[1]",
        new="self._own.accumulate, gpu.total_bytes - gpu.outside_bytes[0]",
        tests=("tests/planning/test_one_source.py",),
    ),
    Mutation(
        package="sweeps",
        mistake="a record is dropped when a sweep resumes",
        file="harness/sweeps/store.py",
        old="for line in good))",
        new="for line in good[1:]))",
        tests=("tests/sweep",),
    ),
    Mutation(
        package="snapshots",
        mistake="what was reserved before the recording is forgotten",
        file="harness/snapshots/replay.py",
        old="now = highest = origin.reserved_bytes",
        new="now = highest = 0",
        tests=("tests/snapshots",),
    ),
    Mutation(
        package="budgets",
        mistake="a layer that is new has not grown",
        file="harness/budgets/step_memory.py",
        old="if size > baseline.layers.get(name, 0)",
        new="if size > baseline.layers.get(name, size)",
        tests=("tests/budgets",),
    ),
    Mutation(
        package="dry_run",
        mistake="the peak is the last moment with most bytes, not the first",
        file="harness/dry_run/history.py",
        old="if now > most:",
        new="if now >= most:",
        tests=("tests/dry_run",),
    ),
    Mutation(
        package="analysis",
        mistake="a cell that ran out of memory is fitted",
        file="harness/analysis/proportionality.py",
        old='frame[(frame["outcome"] == "ok") & frame[quantity].notna()]',
        new="frame[frame[quantity].notna()]",
        tests=("tests/analysis",),
    ),
    Mutation(
        package="reporting",
        mistake="every claim is written down as supported",
        file="harness/reporting/claims.py",
        old="verdict=claim.verdict,",
        new="verdict=Verdict.SUPPORTED,",
        tests=("tests/reporting",),
    ),
    Mutation(
        package="cli",
        mistake="two runs that differ end with exit code 0",
        file="harness/cli/compare_command.py",
        old="return DONE if comparison.equal else NOT_OK",
        new="return DONE",
        tests=("tests/cli/test_app.py", "tests/cli/test_compare.py"),
    ),
)


@contextmanager
def copy() -> Iterator[Path]:
    """Yield a copy of the repository, without what git ignores."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", "local", ".lock")
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=ignored)
        for name in FILES:
            shutil.copy(ROOT / name, folder)
        yield Path(folder)


def noticing_test(mutation: Mutation, place: Path) -> str | None:
    """Return a quick test that fails because of the mistake alone, None where there is none."""
    file = place / mutation.file
    right = file.read_text()
    if right.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.file}: {mutation.old!r} must occur once; change the mutation")
    without: list[str] = []
    while True:
        file.write_text(right.replace(mutation.old, mutation.new))
        found = failing_test(place, *mutation.tests, *without)
        file.write_text(right)
        if found is None or failing_test(place, found) is None:
            return found
        without += ["--deselect", found]  # it fails anyway


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
    """Print which test notices each mistake; return 1 if more than one in ten is not noticed."""
    asked = [each for each in MUTATIONS if not sys.argv[1:] or each.package in sys.argv[1:]]
    missed = 0
    with copy() as place:
        for mutation in asked:
            found = noticing_test(mutation, place)
            missed += found is None
            print(
                f"| {mutation.package} | {mutation.mistake} | {found or 'not noticed'} |",
                flush=True,
            )
    print(f"{len(asked) - missed} of {len(asked)} are noticed")
    return int(not asked or 10 * missed > len(asked))


if __name__ == "__main__":
    sys.exit(main())

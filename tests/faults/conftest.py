import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from harness.sweeps.executors import Measured
from tests.faults.grid import Tally, undisturbed

FULL = os.environ.get("HARNESS_FAULTS") == "full"
IN_FULL = "one of hundreds of injected faults; 'make faults' injects all"
full_only = pytest.mark.skipif(not FULL, reason=IN_FULL)
TABLE = Path(__file__).parent.parent.parent / "results" / "reference-cpu" / "faults.md"
SITE = Path(__file__).parent / "site"
"""On the path of Python, its interpreters misbehave."""
LARGEST = 200 if FULL else 24


@pytest.fixture(scope="session")
def reference() -> Sequence[Measured]:
    """The undisturbed run; a sweep of n cells is its first n."""
    return undisturbed(LARGEST)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """This test's own line of the table, kept where it was tried in full and checked."""
    kept = Tally(fault=request.node.name.removeprefix("test_").replace("_", " "))
    earlier = orphans()
    yield kept
    kept.left += len(psutil.wait_procs(orphans() - earlier, timeout=60)[1])
    if FULL and kept.checked:
        with FileLock(Path(tempfile.gettempdir()) / "harness-faults.lock"):
            write_table(kept)
    assert kept.left == 0


def orphans() -> set[psutil.Process]:
    """Return the processes of the harness whose parent is gone."""
    result = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words[:1] == [sys.executable] and "harness.measurement" in " ".join(words):
                result |= {process} if process.ppid() == 1 else set()
    return result


def write_table(kept: Tally) -> None:
    """Put a line into the table of faults, in the place of an earlier one of its kind."""
    rows = dict(_rows(TABLE.read_text())) if TABLE.exists() else {}
    rows[kept.fault] = (kept.injected, kept.lost, kept.wrong, kept.internal, kept.left)
    lines = ["# Injected faults", "", "Made by `make faults`; nothing in it is edited by hand."]
    lines += ["A line is the last full trial of its kind.", ""]
    lines += ["| fault | injected | lost | wrong | internal errors | left behind |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {n:,} | {' | '.join(map(str, rest))} |" for name, (n, *rest) in rows.items()
    ]
    sums = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines += [f"| **all** | {' | '.join(f'**{one:,}**' for one in sums)} |", ""]
    lines += [
        "Lost: a cell that is not in the loaded frame exactly once after the sweep was resumed.",
        "Wrong: a cell whose exact metrics differ from an undisturbed run's, an attempt without",
        "a record, or a success where a refusal was due.",
        "Internal errors: commands that ended with exit code 1 or a traceback.",
        "Left behind: processes, cgroups and folders that nobody owns any more.",
        "",
    ]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("\n".join(lines))


def _rows(table: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, *numbers in re.findall(
        r"^\| ([^*|]+) \| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", table, re.MULTILINE
    ):
        yield name, tuple(int(number.replace(",", "")) for number in numbers)

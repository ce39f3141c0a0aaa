import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tests.faults.grid import FULL, Tally

IN_FULL = "one of hundreds of injected faults; 'make faults' injects all"
full_only = pytest.mark.skipif(not FULL, reason=IN_FULL)
TABLE = Path(__file__).parent.parent.parent / "results" / "reference-cpu" / "faults.md"
SITE = Path(__file__).parent / "site"
"""On the path of Python, its interpreters misbehave."""


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


HEAD = """# Injected faults

`make faults` writes this file; nothing in it is edited by hand.
Each line shows the last full trial of a kind of fault.

| fault | injected | lost | wrong | internal errors | left behind |
|---|---:|---:|---:|---:|---:|
"""
FOOT = """
Lost: a cell that is not in the loaded frame exactly once after the sweep was resumed.
Wrong: a cell whose exact metrics differ from those of an undisturbed run, an attempt without
a record, or a success that should have been a refusal.
Internal errors: commands that ended with exit code 1 or a traceback.
Left behind: processes, cgroups and folders that nobody uses any more.
"""


def write_table(kept: Tally) -> None:
    """Put a line into the table of faults, in the place of an earlier one of its kind."""
    row = re.compile(r"^\| ([^*|]+)" + r" \| ([\d,]+)" * 5 + r" \|$", re.MULTILINE)
    seen = row.findall(TABLE.read_text()) if TABLE.exists() else []
    rows = {name: [int(number.replace(",", "")) for number in rest] for name, *rest in seen}
    rows[kept.fault] = [kept.injected, kept.lost, kept.wrong, kept.internal, kept.left]
    lines = [
        f"| {name} | {n:,} | {' | '.join(map(str, rest))} |" for name, (n, *rest) in rows.items()
    ]
    sums = [f"**{sum(column):,}**" for column in zip(*rows.values(), strict=True)]
    lines.append(f"| **all** | {' | '.join(sums)} |")
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(HEAD + "\n".join(lines) + "\n" + FOOT)

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.execution.executors import Measured
from tests.faults.grid import Tally, undisturbed

FULL = os.environ.get("HARNESS_FAULTS") == "full"
full_only = pytest.mark.skipif(not FULL, reason="in make faults")
TABLE = Path(__file__).parent.parent.parent / "results" / "reference-cpu" / "faults.md"
SITE = Path(__file__).parent / "site"
"""On the path of Python, its interpreters misbehave."""
LARGEST = 200 if FULL else 24


@pytest.fixture(scope="session")
def reference() -> Sequence[Measured]:
    """The undisturbed run; a sweep of n cells is its first n."""
    return undisturbed(LARGEST)


@pytest.fixture(scope="session")
def tallies() -> Iterator[list[Tally]]:
    """Every kind of fault that was tried; becomes the table where all are tried in full."""
    kept: list[Tally] = []
    yield kept
    if FULL and len(kept) > 10:
        write_table(kept)


@pytest.fixture
def tally(request: pytest.FixtureRequest, tallies: list[Tally]) -> Tally:
    """This test's own line of the table."""
    name = request.node.name.removeprefix("test_").replace("_", " ")
    kept = Tally(fault=name)
    tallies.append(kept)
    return kept


def write_table(kept: Sequence[Tally]) -> None:
    """Write the table of faults."""
    lines = ["# Injected faults", "", "Made by `make faults`; nothing in it is edited by hand.", ""]
    lines += ["| fault | injected | lost | wrong |", "|---|---:|---:|---:|"]
    lines += [f"| {t.fault} | {t.injected:,} | {t.lost} | {t.wrong} |" for t in kept]
    sums = [sum(getattr(t, name) for t in kept) for name in ("injected", "lost", "wrong")]
    lines += [f"| **all** | **{sums[0]:,}** | **{sums[1]}** | **{sums[2]}** |", ""]
    lines += [
        "Lost: a cell that is not in the loaded frame exactly once after the sweep was resumed.",
        "Wrong: a cell whose exact figures differ from an undisturbed run's.",
        "",
    ]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text("\n".join(lines))

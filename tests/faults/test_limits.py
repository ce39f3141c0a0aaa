"""Limits on open files and on processes, from the start of a sweep or in the midst of it.

A limit ends a sweep in one line, or costs an attempt; then, lifted, the same command goes on.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.faults.grid import FULL, Tally
from tests.faults.processes import coordinator, finish, log_of, settle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit (util-linux)"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def somebody_else() -> list[str]:
    """A command that runs another as a user whose processes are limited: root's are not."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("counting another user's processes needs root, and setpriv (util-linux)")
    # Nobody else's, because the kernel counts processes by user.
    ours = "-all,+dac_override"  # to read and write our files
    return [
        *("setpriv", "--reuid=54321", f"--bounding-set={ours}"),
        *(f"--inh-caps={ours}", f"--ambient-caps={ours}"),
    ]


def sweep_within(
    limits: Iterable[Sequence[str]], errors: tuple[str, ...], folder: Path, tally: Tally
) -> None:
    """Sweep below each command to a clean end, then without one to the last cell."""
    cells = 6
    for limit in limits:
        with coordinator(folder, cells, limit) as process:
            code = process.wait()
        said = log_of(folder).read_text()
        assert code >= 0, said[-2000:]
        assert not code or any(error in said.splitlines()[-1] for error in errors)
        tally.injected += 1
    finish(folder, cells)
    settle(folder, cells, tally)


def test_few_files_from_the_start(tmp_path: Path, tally: Tally) -> None:
    limits = (["prlimit", f"--nofile={n}"] for n in (range(5, 25) if FULL else (9,)))
    sweep_within(limits, ("LaunchError", "StoreError"), tmp_path / "run", tally)


def test_few_processes_from_the_start(
    somebody_else: list[str], tmp_path: Path, tally: Tally
) -> None:
    prefix = [*somebody_else, "prlimit"]
    limits = ([*prefix, f"--nproc={n}"] for n in (range(2, 11) if FULL else (3,)))
    sweep_within(limits, ("LaunchError",), tmp_path / "run", tally)

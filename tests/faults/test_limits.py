"""Limits on open files and on processes, from the start of a sweep or in the midst of it.

A limit ends a sweep in one line, or costs an attempt; then, lifted, the same command goes on.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.sweeps.executors import Measured
from tests.faults.conftest import FULL
from tests.faults.grid import Tally
from tests.faults.processes import coordinator, finish, log_of, settle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit (util-linux)"),
    pytest.mark.timeout(900),
]
UID = "54321"
"""Nobody else's: the kernel counts processes by user."""


@pytest.fixture
def somebody_else() -> list[str]:
    """A command that runs another as a user whose processes are limited: root's are not."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("counting another user's processes needs root, and setpriv (util-linux)")
    ours = "-all,+dac_override"  # to read and write our files
    return [
        *("setpriv", f"--reuid={UID}", f"--bounding-set={ours}"),
        *(f"--inh-caps={ours}", f"--ambient-caps={ours}"),
    ]


def sweep_within(limit: Sequence[str], folder: Path, cells: int, **environment: str) -> str:
    """Sweep below the command ``limit`` to a clean end; return what was said last if too early."""
    with coordinator(folder, cells, limit, **environment) as process:
        code = process.wait()
    said = log_of(folder).read_text()
    assert code >= 0, said[-2000:]
    return said.splitlines()[-1] if code else ""


def test_few_files_from_the_start(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    folder, cells = tmp_path / "run", 6
    for files in range(5, 25) if FULL else (9,):
        said = sweep_within(["prlimit", f"--nofile={files}"], folder, cells)
        assert not said or "LaunchError" in said or "StoreError" in said
        tally.injected += 1
    finish(folder, cells)
    settle(folder, cells, reference, tally)


def test_few_processes_from_the_start(
    somebody_else: list[str], tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    folder, cells = tmp_path / "run", 6
    for processes in range(2, 11) if FULL else (3,):
        limit = [*somebody_else, "prlimit", f"--nproc={processes}"]
        said = sweep_within(limit, folder, cells)
        assert not said or "LaunchError" in said, said
        tally.injected += 1
    finish(folder, cells)
    settle(folder, cells, reference, tally)

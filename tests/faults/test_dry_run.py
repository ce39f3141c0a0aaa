"""A dry run under attack: it says what it saw, and leaves files and the machine as they were."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import file_operations
from tests.faults.grid import FULL, Tally

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("cuda_build")]
TRIALS = 40 if FULL else 2


def test_script_that_changes_files_under_a_dry_run(tmp_path: Path, tally: Tally) -> None:
    """The script sees what it would see without a dry run, and the user's files stay."""
    for seed in range(TRIALS):
        folders = [tmp_path / f"{kind}{seed}" for kind in ("real", "pretended")]
        for folder in folders:
            for name in file_operations.NAMES:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(f"good {name}")
        arguments = [str(seed), "30"]
        command = [sys.executable, "-P", file_operations.__file__, str(folders[0]), *arguments]
        expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        command[2:3] = ["-m", "harness", "dry-run", "--json", file_operations.__file__]
        command[7:8] = [str(folders[1])]
        seen = subprocess.run(command, capture_output=True, text=True, check=False)
        tally.injected += 1
        tally.internal += seen.returncode == 1
        tally.lost += not all(
            (folders[1] / name).is_file() and (folders[1] / name).read_text() == f"good {name}"
            for name in file_operations.NAMES
        )
        line = next((one for one in seen.stdout.splitlines() if one.startswith('{"view"')), "{}")
        if f", {errno.ELOOP}]" in expected:
            continue  # links to themselves
        if json.loads(line) != json.loads(expected):
            tally.wrong += 1
            tally.notes.add(f"seed {seed}: {line} is not {expected}")
    tally.settle_answers()

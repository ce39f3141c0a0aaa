"""A dry run under attack: it says what it saw, and leaves files and the machine as they were."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.dry_run import build, toolchain
from harness.dry_run.toolchain import DryRunUnavailableError
from tests.faults import file_operations
from tests.faults.conftest import FULL
from tests.faults.grid import Tally

TRIALS = 40 if FULL else 2


@pytest.fixture(autouse=True)
def stub() -> None:
    """Build the stub; skip where the dry run cannot work."""
    try:
        build.build(toolchain.torch_build())
    except DryRunUnavailableError as error:
        pytest.skip(str(error))


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


def test_harness_killed_during_a_dry_run(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random(22)
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    marker = f"HARNESS_DRY_RUN_STATUS={tmp_path}"
    for _ in range(TRIALS):
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", "dry-run", str(script)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(tmp_path)},
        )
        time.sleep(chance.uniform(0.05, 3.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.injected += 1
        deadline = time.monotonic() + 30
        while left(marker) and time.monotonic() < deadline:
            time.sleep(0.05)
        tally.left += left(marker)
    script.write_text("")
    subprocess.run(
        [sys.executable, "-m", "harness", "dry-run", str(script)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=True,
    )
    tally.left += len(list(tmp_path.glob("harness-dry-run-*")))  # the next run swept them
    tally.settle_answers()


def left(marker: str) -> int:
    """Return how many processes have a text in their environment."""
    result = 0
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        result += any(f"{name}={value}".startswith(marker) for name, value in environment.items())
    return result

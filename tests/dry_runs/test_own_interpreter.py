"""No module of the current folder is executed, or keeps a command from working."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dry_runs.scripts import script

NAMES = ("msgspec", "harness", "pickle", "ctypes", "json", "numpy", "torch", "resource")

TRAINING = """
import torch
network = torch.nn.Linear(64, 64).cuda()
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
for _ in range(4):
    network(torch.randn(8, 64, device="cuda")).sum().backward()
    optimizer.step()
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Return a folder with modules of the names of those that the harness loads."""
    (tmp_path / "harness").mkdir()
    for name in (*NAMES, "harness/__init__"):
        (tmp_path / f"{name}.py").write_text("print('ran', __name__)\n")
    return tmp_path


def harness(folder: Path, *arguments: str) -> str:
    """Run the command line as its script does, which has the folder of scripts in its path."""
    command = [sys.executable, "-P", "-m", "harness", *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "ran " not in ended.stdout
    return ended.stdout


def test_measure_runs_no_code_of_the_current_folder(hostile: Path) -> None:
    assert "peak" in harness(hostile, "measure", "--depth", "1", "--width", "8", "--batch", "4")


@pytest.mark.slow
def test_doctor_runs_no_code_of_the_current_folder(hostile: Path) -> None:
    said = harness(hostile, "doctor", "--json")
    assert "start_child" not in said
    findings = json.loads(said)["findings"]
    available = {finding["what"]: finding["available"] for finding in findings}
    assert available["machine"]
    assert any(name.startswith("isolated workers") and ok for name, ok in available.items())
    assert all(finding["detail"] for finding in findings)
    assert "CUDA dry run" in available


@pytest.mark.usefixtures("cuda_build")
def test_dry_run_runs_no_code_of_the_current_folder(hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = script(tmp_path / "elsewhere", "import msgspec; msgspec.Struct; print('run')")
    assert "run" in harness(hostile, "dry-run", str(path)).splitlines()


@pytest.mark.quick
@pytest.mark.usefixtures("cuda_build")
def test_a_script_finds_its_own_modules(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("mine = 1\n")
    (tmp_path / "msgspec.py").write_text("mine = 2\n")
    script(tmp_path, "import harness, msgspec; assert harness.mine + msgspec.mine == 3" + TRAINING)
    harness(tmp_path, "dry-run", "script.py")
    harness(tmp_path, "dry-run", "-m", "script")

"""``pytest --pretend-gpu l4`` runs a session on a pretended GPU, with pytest's exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.budgets.pretended_session import command, without_options

TESTS = """
import torch

def test_right():
    assert torch.ones(4, device="cuda").sum().item() == 4

def test_device():
    assert (torch.ones(4) + torch.ones(4, device="cuda")).sum() == 8
"""


def test_the_command_has_the_arguments_of_the_session_and_no_option_of_ours() -> None:
    options = ["--gpu", "h100-80gb", "--gpus", "2"]
    words = command(options, ["-k", "gpu", "--pretend-gpu=h100-80gb", "--pretend-gpus", "2"])
    assert words[1:4] == ["-m", "harness", "dry-run"]
    assert words[4:] == ["--gpu", "h100-80gb", "--gpus", "2", "-m", "pytest", "-k", "gpu"]
    assert without_options(["--pretend-gpu", "l4", "a", "--pretend-gpus=2"]) == ["a"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(("selected", "code"), [("right", 0), ("device", 1), ("nothing", 5)])
def test_a_session_starts_again(tmp_path: Path, selected: str, code: int) -> None:
    (tmp_path / "test_gpu.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-q", "--pretend-gpu", "l4", "-k", selected]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    if selected == "device":
        assert "Expected all tensors to be on the same device" in done.stdout

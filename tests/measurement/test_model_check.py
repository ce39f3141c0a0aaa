"""The comparison of the memory model with the installed PyTorch: what it finds, and says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.measurement.model_check import PROBES, check_model
from harness.prediction.versions import NEWEST

ROOT = Path(__file__).parents[2]
NEWER = "9.9.0"

WRONG_ON_PURPOSE = """
import sys
from harness.cli.app import main
from harness.measurement import model_check
from harness.prediction.mlp import activations
right = activations.Dropout.apply
model_check.PROBES = tuple(probe for probe in model_check.PROBES if probe.dropout)
activations.Dropout.apply = lambda self, size_bytes, module: right(self, 2 * size_bytes, module)
sys.exit(main(["doctor", "--check-model"]))
"""


@pytest.mark.exact
def test_the_model_holds_for_the_installed_version() -> None:
    check = check_model()
    assert check.differences == {}
    assert check.workloads == len(set(PROBES)) >= 50
    assert f": {check.workloads} of {check.workloads} workloads equal" in str(check)


def environment_of(version: str, folder: Path) -> dict[str, str]:
    """Return this environment with metadata of torch ``version`` in ``folder`` found first."""
    facts = folder / f"torch-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def pretending(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment whose torch says that it is newer than all known ones."""
    return subprocess.run(
        [sys.executable, *arguments], env=environment_of(NEWER, folder) | {"COLUMNS": "400"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_with_a_newer_version_the_doctor_names_the_event_that_differs(tmp_path: Path) -> None:
    done = pretending(tmp_path, "-c", WRONG_ON_PURPOSE)
    assert done.returncode == 3, done.stderr
    assert f"torch {NEWER}, rules of {NEWEST}: " in done.stdout
    assert "predicted" in done.stdout
    assert "aten::dropout" in done.stdout


def test_with_a_newer_version_every_prediction_carries_the_note(tmp_path: Path) -> None:
    done = pretending(tmp_path, "-m", "harness.cli.app", "predict", "--json")
    assert f"torch {NEWER} is newer than {NEWEST}" in done.stdout

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
from harness.cli.app import main
from harness.measurement import model_check
from harness.prediction.mlp import activations
right = activations.Dropout.apply
model_check.PROBES = tuple(probe for probe in model_check.PROBES if probe.dropout)
activations.Dropout.apply = lambda self, size_bytes, module: right(self, 2 * size_bytes, module)
print("ended", main(["doctor", "--check-model"]))
"""


@pytest.mark.exact
def test_the_model_holds_for_the_installed_version() -> None:
    check = check_model()
    assert check.differences == {}
    assert check.workloads == len(set(PROBES)) >= 50
    assert f": {check.workloads} of {check.workloads} workloads equal" in str(check)


def pretending(folder: Path, *arguments: str) -> str:
    """Return what Python prints in an environment whose torch is newer than all known ones."""
    facts = folder / f"torch-{NEWER}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {NEWER}\n")
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "400"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=own, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_with_a_newer_version_the_doctor_names_the_event_that_differs(tmp_path: Path) -> None:
    said = pretending(tmp_path, "-c", WRONG_ON_PURPOSE)
    assert f"torch {NEWER}, rules of {NEWEST}: " in said
    assert "predicted" in said
    assert "aten::dropout" in said
    assert said.endswith("ended 3\n")


def test_with_a_newer_version_every_prediction_carries_the_note(tmp_path: Path) -> None:
    said = pretending(tmp_path, "-m", "harness.cli.app", "predict", "--json")
    assert f"torch {NEWER} is newer than {NEWEST}" in said

"""The comparison of the memory model with the installed PyTorch: what it finds, and says."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.validation.pretend_newer import environment_of
from harness.measurement.model_check import PROBES, check_model
from harness.prediction.mlp import activations
from harness.prediction.torch_rules import MAXIMUM_COMPARES_FIRST
from harness.prediction.versions import NEWEST, OLDEST

ROOT = Path(__file__).parents[2]
NEWER = "9.9.0"

WRONG_ON_PURPOSE = """
import sys
from harness.cli.app import main
from harness.prediction.mlp import activations
right = activations.Dropout.apply
activations.Dropout.apply = lambda self, size_bytes, module: right(self, 2 * size_bytes, module)
sys.exit(main(["doctor", "--check-model"]))
"""


@pytest.mark.exact
def test_the_model_holds_for_the_installed_version() -> None:
    check = check_model()
    assert check.differences == {}
    assert check.workloads == len(set(PROBES)) >= 50
    assert f": {check.workloads} of {check.workloads} workloads equal" in str(check)


@pytest.mark.slow
@pytest.mark.exact
def test_a_workload_that_differs_is_named_with_the_operator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    since = NEWEST._replace(minor=99) if MAXIMUM_COMPARES_FIRST.holds() else OLDEST
    wrong = replace(MAXIMUM_COMPARES_FIRST, since=since)
    monkeypatch.setattr(activations, "MAXIMUM_COMPARES_FIRST", wrong)
    check = check_model()
    assert {workload.model for workload in check.differences} == {"mlp-scratch"}
    assert all("MaximumBackward0" in why for why in check.differences.values())
    equal = check.workloads - len(check.differences)
    assert f"{equal} of {check.workloads} workloads equal" in str(check)


def pretending(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an environment whose torch says that it is newer than all known ones."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment_of(NEWER, folder) | {"COLUMNS": "400"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_with_a_newer_version_exactness_is_skipped_with_the_reason(tmp_path: Path) -> None:
    tests = "tests/prediction/test_cpu_trace.py"
    done = pretending(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", "-q", tests)
    assert done.returncode == 0, done.stdout
    assert f"newer than the versions whose rules are known: torch {NEWER}" in done.stdout
    assert " passed" in done.stdout
    assert " skipped" in done.stdout


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

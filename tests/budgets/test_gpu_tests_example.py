"""The example project with GPU tests: they pass without a GPU, and find four planted errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.usefixtures("cuda_build"), pytest.mark.slow]

PROJECT = Path(__file__).parents[2] / "examples" / "gpu_tests"
PLANTED = {
    "a tensor on the wrong device": (
        ", device=seen.device)",
        ")",
        "test_scores_equal_those_of_the_cpu",
        "Expected all tensors to be on the same device",
    ),
    "a dtype that only CUDA refuses": (
        "(rows.float() @ groups.float()).long()",
        "rows @ groups",
        "test_items_of_each_group_are_counted",
        "not implemented for 'Long'",
    ),
    "a leak": (
        "total += loss.item()",
        "total += loss",
        "test_training_keeps_nothing",
        "assert",
    ),
    "a step that no longer fits": (
        "seen.split(part)",
        "seen.split(len(seen))",
        "test_a_step_of_all_users_fits",
        "CUDA out of memory",
    ),
}


def session(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the report of the project's GPU tests."""
    command = [sys.executable, "-m", "harness", "dry-run", "--gpu", "l4", "--json", "-m", "pytest"]
    command += ["-q", "-p", "no:cacheprovider", "-m", "gpu", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return done.returncode, report


def test_the_tests_of_the_example_pass() -> None:
    code, report = session(PROJECT)
    assert code == 0
    assert [test["outcome"] for test in report["tests"]] == ["passed"] * 4


@pytest.mark.parametrize("name", PLANTED)
def test_the_tests_find_a_planted_error(tmp_path: Path, name: str) -> None:
    right, wrong, finder, words = PLANTED[name]
    shutil.copytree(PROJECT, tmp_path / "project")
    source = tmp_path / "project" / "ranker.py"
    text = source.read_text()
    assert right in text
    source.write_text(text.replace(right, wrong))
    code, report = session(tmp_path / "project", "-k", finder)
    (test,) = report["tests"]
    assert code == 1
    assert test["outcome"] == "failed"
    assert words in test["why"]

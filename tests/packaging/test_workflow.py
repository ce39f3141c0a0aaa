"""Permissions and commands of the workflows of GitHub."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

import harness
from tests.child_process import run

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_may_only_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)@(\S+)", text)
    assert actions
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for _, commit in actions), actions
    assert "\npermissions:\n  contents: read\n" in text
    checkouts = [name for name, _ in actions if name == "actions/checkout"]
    assert text.count("persist-credentials: false") == len(checkouts) > 0
    assert "pull_request_target" not in text
    for script in re.findall(r"run: (\.ci/\w+)", text):
        assert (ROOT / script).stat().st_mode & 0o111, script


@pytest.mark.parametrize(
    ("command", "code", "verdict"),
    [
        ("predict --depth 2 --gpu l4 --check", 0, "fits"),
        ("predict --depth 2 --budget 1MiB --check", 3, "does not fit"),
        ("predict --depth 'two' --gpu l4", 2, "--depth must be a whole number, got 'two'"),
    ],
)
def test_the_action_ends_as_the_command_and_writes_its_answer(
    command: str, code: int, verdict: str, tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml")
    (*_, step) = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    assert step["shell"] == "python"
    tool = tmp_path / "harness"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    tool.chmod(0o755)
    files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **files, **paths, "COMMAND": command}
    done = run(sys.executable, "-c", step["run"], env=environment)
    assert done.returncode == code, done.stderr
    answer = json.loads((tmp_path / "GITHUB_OUTPUT").read_text().removeprefix("json="))
    assert verdict in (answer["verdict"], answer["error"])
    assert f"**{verdict}**" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()


def test_the_hook_is_a_command_with_its_options() -> None:
    yaml = pytest.importorskip("yaml")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    tool, command, *options = hook["entry"].split()
    from harness.cli.app import app

    known = [name for one in app.commands[command].params for name in one.opts]
    assert (tool, set(options) - set(known)) == ("harness", set())


def test_the_version_stands_in_one_place() -> None:
    version = harness.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


GPU_TEST = """
import torch

def test_step():
    kept = torch.zeros(MIB << 20, dtype=torch.uint8, device="cuda")
    assert torch.cuda.memory_allocated() == MIB << 20
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_the_action_compares_the_memory_of_tests_with_the_base(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    (*_, step) = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    work, summary = tmp_path / "work", tmp_path / "GITHUB_STEP_SUMMARY"
    work.mkdir()
    (tmp_path / "harness").write_text(f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    (tmp_path / "harness").chmod(0o755)
    git = ["git", "-C", str(work), "-c", "user.name=A", "-c", "user.email=a@b.c"]
    run(*git, "init", "--quiet", "--initial-branch", "main")
    for size in (4, 6):
        (work / "test_gpu.py").write_text(GPU_TEST.replace("MIB", str(size)))
        run(*git, "add", "test_gpu.py")
        run(*git, "commit", "--quiet", "--message", "size")
    run(*git, "branch", "before", "HEAD~1")
    run(*git, "remote", "add", "origin", str(work))
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(summary),
        "COMMAND": "dry-run --gpu l4 -m pytest -q -p no:cacheprovider test_gpu.py",
        "BASE": "before",
    }
    done = run(sys.executable, "-c", step["run"], cwd=work, env=environment)
    assert done.returncode == 0, done.stderr
    line = "| `test_gpu.py::test_step` | passed | 6 MiB | 4 MiB | +2,097,152 B |"
    assert line in summary.read_text()

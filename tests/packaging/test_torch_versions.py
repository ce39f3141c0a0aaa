"""The tool that runs each version of PyTorch: what it installs, keeps and exits with."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.validation import torch_versions
from harness.prediction.versions import NEWEST


def result(version: str, **changes: Any) -> dict[str, Any]:
    facts = {
        "torch": f"{version}.0+cu130",
        "python": "3.13.5",
        "processor": "any",
        "version": version,
        "known": True,
        "drawn": 60,
        "install_seconds": 70,
        "test_seconds": 120,
        "passed": 180,
        "skipped": 1,
        "failed": [],
        "workloads": 58,
        "equal": 58,
    }
    return facts | changes


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results go to this folder."""
    monkeypatch.setattr(torch_versions, "KEPT", tmp_path / "kept.json")
    monkeypatch.setattr(torch_versions, "TABLE", tmp_path / "table.md")
    return tmp_path


def exit_code(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["torch_versions", *words])
    return torch_versions.main()


def test_a_version_that_is_run_again_keeps_the_rows_of_the_others(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {text: result(text) for text in ("2.9", "2.10", "2.8")}
    monkeypatch.setattr(torch_versions, "run", lambda text, examples, *, keep: answer[text])
    assert exit_code(monkeypatch, "2.9", "2.10", "--record") == 0
    answer["2.9"] = result("2.9", passed=7)
    assert exit_code(monkeypatch, "2.9", "2.8", "--record") == 0
    rows = json.loads((kept / "kept.json").read_text())
    assert [(name, row["passed"]) for name, row in rows.items()] == [
        ("2.8", 180),
        ("2.9", 7),
        ("2.10", 180),
    ]
    table = (kept / "table.md").read_text().splitlines()
    rows_of = [line.partition(" | ")[0] for line in table if "58 of 58" in line]
    assert rows_of == [f"| {version}.0+cu130" for version in ("2.8", "2.9", "2.10")]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"failed": ["tests.x::test_y"]}, 1),
        ({"equal": 57}, 1),
        ({"equal": 57, "known": False}, 0),
        ({}, 0),
    ],
)
def test_on_a_known_version_a_difference_fails(
    changes: dict[str, Any], code: int, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = result(str(NEWEST), **changes)
    monkeypatch.setattr(torch_versions, "run", lambda text, examples, *, keep: answer)
    assert exit_code(monkeypatch, "latest") == code


def test_what_pip_cannot_install_has_an_exit_code_of_its_own_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(folder: Path, text: str) -> Path:
        folder.mkdir()
        raise torch_versions.InstallError("pip ended with exit code 1")

    monkeypatch.setattr(torch_versions, "ROOT", tmp_path)
    monkeypatch.setattr(torch_versions, "make_environment", refused)
    assert exit_code(monkeypatch, "latest") == torch_versions.NOT_INSTALLED
    assert "torch latest: not installed, pip ended" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())

"""Upstream's tests on a pretended GPU: rows of results, causes of failures, and their page."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.upstream import __main__ as upstream
from benchmarks.upstream.tables import results_page

CAUSES = [{"test": "test_b", "says": "302 not", "why": "torch has what it guards against"}]


def ran(name: str, outcome: str, why: str | None = None, peak: int | None = None) -> Any:
    return {
        "name": f"a/b.py::Cases::{name}",
        "outcome": outcome,
        "why": why,
        "requested_peak_bytes": peak,
        "seconds": 1.26,
    }


def report(*tests: Any, evidence: str | None = None) -> dict[str, Any]:
    return {"tests": tests, "evidence": evidence, "environment": {"torch": "2.15"}}


def test_a_failure_has_a_cause_only_if_it_says_the_same() -> None:
    assert upstream.cause_of(ran("test_b", "failed", "302 not below 242"), CAUSES)
    assert upstream.cause_of(ran("test_b", "failed", "12 not below 242"), CAUSES) is None
    assert upstream.cause_of(ran("test_c", "failed", "302 not below 242"), CAUSES) is None


def test_a_run_without_a_test_is_a_failure() -> None:
    clone = Path("/me/clone")
    evidence = "SIGSEGV at /me/clone/a.py:1, /v/lib/site-packages/torch/b.py:2"
    (row,) = upstream.rows_of(report(evidence=evidence), clone)
    assert (row["outcome"], row["why"]) == ("failed", "SIGSEGV at a.py:1, torch/b.py:2")


def test_results_are_kept_by_file_and_an_unknown_failure_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = {"project": "pytorch", "folder": "test", "gpu": "l4", "gpus": 2, "seconds": 9}
    suite["files"] = ["test_one.py", "test_two.py", "test_absent.py"]
    monkeypatch.setattr(upstream, "SUITES", {"suite": [suite], "cause": []})
    (tmp_path / "test").mkdir()
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / "test" / name).write_text("")
    answers = {
        "test_one.py": report(ran("test_a", "passed", peak=3 << 20)),
        "test_two.py": report(ran("test_v", "not known", "at b.py:7"), ran("test_s", "skipped")),
    }
    monkeypatch.setattr(upstream, "dry_run_of", lambda _, file, __: answers[file])
    words = ["upstream", "--pytorch", str(tmp_path), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    assert upstream.main() == 0
    said = capsys.readouterr().out
    assert "torchtitan is left out" in said
    assert "test_absent.py is left out: the clone has no such file" in said
    answers["test_one.py"] = report(ran("test_a", "failed", "5 != 3"))
    monkeypatch.setattr(sys, "argv", [*words, "--only", "one"])
    assert upstream.main() == 1
    assert "test_a: 5 != 3" in capsys.readouterr().out
    page = (tmp_path / "out" / "README.md").read_text()
    said = "Results: 1 failed, 1 not known, 1 skipped; torch 2.15; commit `unknown ("
    assert said in page
    assert r"| test\_two.py | Cases::test\_v | 2 x l4 | not known | - | 1.3 |" in page
    assert "- `Cases::test_v` (not known): at b.py:7" in page
    assert results_page({"tests": [], "projects": {}}).startswith("# Upstream")

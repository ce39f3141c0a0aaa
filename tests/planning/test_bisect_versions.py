"""The same question under several versions of PyTorch: the table, and what differs first."""

import json
import sys
from pathlib import Path

import pytest

from harness.planning import bisect_versions
from harness.planning.bisect_versions import (
    VersionAnswer,
    ask_versions,
    first_difference,
    versions_text,
)
from harness.prediction import torch_environments
from harness.prediction.torch_environments import InstallError, python_of, versions_between
from harness.prediction.versions import TorchVersionError


def answer(torch: str, *sizes: int, outcome: str = "ok") -> VersionAnswer:
    return VersionAnswer(
        torch=torch,
        outcome=outcome,
        peaks_bytes=dict.fromkeys(("requested", "allocated", "reserved"), sum(sizes)),
        allocations=tuple((size, f"line {number}") for number, size in enumerate(sizes)),
        places={f"line {number}": size for number, size in enumerate(sizes)},
    )


def test_the_first_version_that_differs_and_the_first_allocation_that_does() -> None:
    answers = [answer("2.9", 512, 1024), answer("2.10", 512, 1024), answer("2.11", 512, 4096)]
    assert first_difference(answers) == (answers[1], answers[2])
    text = "\n".join(versions_text(answers))
    assert "The first version that differs: 2.11, from 2.10." in text
    assert "number 2:" in text
    assert "torch 2.11: 4 KiB, line 1" in text
    assert first_difference(answers[:2]) is None
    assert "No peak differs." in "\n".join(versions_text(answers[:2]))


def test_an_outcome_that_differs_is_a_difference() -> None:
    pair = [answer("2.9", 512), answer("2.10", 512, outcome="oom")]
    assert first_difference(pair) == tuple(pair)
    lost = [VersionAnswer(torch=torch, outcome="error") for torch in ("2.9", "2.10")]
    assert "No version gave an answer." in "\n".join(versions_text(lost))


def test_versions_are_in_order_and_unsupported_ones_are_refused() -> None:
    assert versions_between("2.8", "2.10", ["2.15", "2.9"]) == ["2.8", "2.9", "2.10", "2.15"]
    with pytest.raises(TorchVersionError, match=r"from 2\.7 to 2\.15, got 2\.5"):
        versions_between(None, None, ["2.5"])


def test_offline_says_what_an_installation_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch_environments, "torch_version", lambda: "2.15.0")
    assert python_of("2.15", offline=True) == sys.executable
    with pytest.raises(InstallError, match=r"without --offline pip downloads about 3 GB"):
        python_of("2.10", offline=True)


def test_a_version_without_an_answer_is_an_error_and_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = {f"{name}_peak_bytes": 7 for name in ("requested", "allocated", "reserved")}
    group = {"place": "/a/site-packages/net.py:7 forward", "requested_bytes": 7}
    found = {"outcome": "ok", "cuda": cuda, "devices": [{"peak": {"groups": [group]}}]}
    script = f"print('loss 0.5'); print({json.dumps(found)!r})"
    for version, text in (("2.9", "raise SystemExit(1)"), ("2.10", script)):
        python = tmp_path / version
        python.write_text(f"#!{sys.executable}\n{text}\n")
        python.chmod(0o755)
    monkeypatch.setattr(
        bisect_versions, "python_of", lambda version, offline: str(tmp_path / version)
    )
    first, second = ask_versions(["2.9", "2.10"], ["--", "train.py"], program="m", offline=True)
    assert (first.outcome, first.evidence) == ("error", "exit code 1")
    assert second.places == {"net.py:7 forward": 7}
    assert second.peaks_bytes == {"requested": 7, "allocated": 7, "reserved": 7}

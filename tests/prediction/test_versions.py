"""Which version of PyTorch a prediction describes, and how it says so."""

import platform

import pytest

from harness.cli.app import main
from harness.prediction import versions
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.predict_workload import predict
from harness.prediction.versions import (
    KNOWN,
    NEWEST,
    OLDEST,
    TorchVersion,
    TorchVersionError,
    described_version,
    describing,
)
from harness.schema.workload import Workload

RELU_BY_HAND = Workload(model="mlp-scratch", depth=2, width=8, batch=4)


def installed(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    monkeypatch.setattr(versions, "torch_version", lambda: version)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.mark.parametrize("version", KNOWN, ids=str)
def test_an_installed_known_version_is_described_without_a_note(
    version: TorchVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, f"{version}.1+cu126")
    result = predict(Workload())
    assert (result.torch, result.notes) == (str(version), ())


@pytest.mark.parametrize("version", ["2.16.0", "2.16.0a0+git1234", "3.0.1"])
def test_a_newer_version_is_noted_with_what_to_do(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, version)
    result = predict(Workload())
    assert result.torch == str(NEWEST)
    (note,) = result.notes
    assert note.startswith(f"torch {version} is newer than {NEWEST}, the newest version")
    assert "harness doctor --check-model" in note


def test_an_older_version_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "2.6.0")
    result = predict(Workload())
    assert result.torch == str(OLDEST)
    assert result.notes[0].startswith("torch 2.6.0 is older than 2.7")


def test_an_absent_torch_is_noted_unless_a_version_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, None)
    result = predict(Workload())
    assert result.torch == str(NEWEST)
    assert result.notes == (f"torch is not installed; these are the metrics of torch {NEWEST}",)
    assert predict(Workload(), torch="2.9").notes == ()


def test_the_caller_chooses_the_version_for_one_prediction_only() -> None:
    before = described_version()
    assert predict(RELU_BY_HAND, torch="2.13").torch == "2.13"
    assert predict(RELU_BY_HAND, torch="2.14.1+cu130").torch == "2.14"
    assert described_version() == before


def test_the_command_names_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--torch", "2.9"]) == 0
    assert "predicted, torch 2.9" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["2.6", "2.16", "3.0", "1.13.1"])
def test_an_unknown_version_is_refused(text: str) -> None:
    with pytest.raises(TorchVersionError, match=rf"from {OLDEST} to {NEWEST}, got {text}"):
        predict(Workload(), torch=text)


@pytest.mark.parametrize("text", ["", "latest", "2", "v2.13"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(TorchVersionError, match="torch must be a version such as"):
        predict(Workload(), torch=text)


def test_maximum_compares_in_another_order_since_2_14() -> None:
    def operators(minor: int) -> list[str]:
        with describing(TorchVersion(2, minor)):
            events = predict_trace(RELU_BY_HAND).events
        of_node = [e for e in events if "MaximumBackward0" in e.operator and e.size_bytes > 0]
        return [event.operator.rpartition("::")[2] for event in of_node][:6]

    assert operators(13) == ["div", "empty_strided", "div", "eq", "where", "lt"]
    assert operators(14) == ["lt", "div", "empty_strided", "div", "eq", "where"]

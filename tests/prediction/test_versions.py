"""Which version of PyTorch a prediction describes, and how it says so."""

import platform

import pytest

from harness.prediction import versions
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.predict_workload import predict
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


@pytest.mark.parametrize(
    ("version", "described", "note"),
    [
        *((f"{version}.1+cu126", version, "") for version in KNOWN),
        ("2.16.0", NEWEST, f"torch 2.16.0 is newer than {NEWEST}, the newest version"),
        ("3.0.1a0+git1234", NEWEST, f"torch 3.0.1a0+git1234 is newer than {NEWEST}, the newest"),
        ("2.6.0", OLDEST, "torch 2.6.0 is older than 2.7"),
        (None, NEWEST, f"torch is not installed; these are the metrics of torch {NEWEST}"),
    ],
)
def test_an_unknown_or_absent_version_is_noted_unless_one_is_chosen(
    version: str | None, described: TorchVersion, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "torch_version", lambda: version)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    result = predict(Workload())
    assert result.torch == str(described)
    said = "".join(result.notes)
    assert said.startswith(note)
    assert bool(said) == bool(note)
    assert ("harness doctor --check-model" in said) == ("newer" in note)
    assert version or predict(Workload(), torch="2.9").notes == ()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        *((text, rf"from {OLDEST} to {NEWEST}, got {text}") for text in ("2.6", "2.16", "1.13.1")),
        *((text, "torch must be a version such as") for text in ("", "latest", "2", "v2.13")),
    ],
)
def test_what_is_no_known_version_is_refused(text: str, rule: str) -> None:
    with pytest.raises(TorchVersionError, match=rule):
        predict(Workload(), torch=text)


def test_the_caller_chooses_the_version_for_one_prediction_only() -> None:
    before = described_version()
    assert predict(RELU_BY_HAND, torch="2.13").torch == "2.13"
    assert predict(RELU_BY_HAND, torch="2.14.1+cu130").torch == "2.14"
    assert described_version() == before


def test_maximum_compares_in_another_order_since_2_14() -> None:
    def operators(minor: int) -> list[str]:
        with describing(TorchVersion(2, minor)):
            events = predict_trace(RELU_BY_HAND).events
        of_node = [e for e in events if "MaximumBackward0" in e.operator and e.size_bytes > 0]
        return [event.operator.rpartition("::")[2] for event in of_node][:6]

    assert operators(13) == ["div", "empty_strided", "div", "eq", "where", "lt"]
    assert operators(14) == ["lt", "div", "empty_strided", "div", "eq", "where"]

"""Shared by the tests of predictions."""

import pytest

from harness.prediction import versions


@pytest.fixture
def rules_of_2_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow the rules of the version that a number was recorded with, whichever is installed."""
    monkeypatch.setattr(versions, "torch_version", lambda: "2.13.0")

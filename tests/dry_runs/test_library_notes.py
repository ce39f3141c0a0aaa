"""Notes of a report on libraries that were asked for sizes, over planted answers."""

from collections.abc import Callable

import pytest

from harness.dry_runs import library_notes as notes
from harness.schema.errors import UnsupportedError


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plant the answers of a process."""

    def plant(*counted: int, executed: int = 0) -> None:
        seen = notes._Answers(*counted, executed=executed)
        monkeypatch.setattr(notes, "_answers", lambda: seen)
        monkeypatch.setattr(notes, "_version", lambda: "9.5.1")

    return plant


def test_each_library_that_was_asked_has_a_note(answers: Callable[..., None]) -> None:
    answers(0)
    assert notes.library_notes() == ()
    answers(1 | 4 | 64, 0, 3 << 20)
    engines, benchmark, solver = notes.library_notes()
    assert "cuDNN 9.5.1 chose the engines" in engines
    assert "takes between 0 B and 3 MiB" in benchmark
    assert "not counted" in solver


def test_an_autotuned_convolution_is_a_range(
    answers: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_autotuned", [])
    answers(0, executed=3 << 20)
    notes.remember_autotuned()
    (note,) = notes.library_notes()
    assert "whose workspace is at most 3 MiB; a Triton kernel has none" in note


@pytest.mark.parametrize(("kinds", "kind"), [(2, UnsupportedError), (1, RuntimeError)])
def test_an_old_cudnn_is_unsupported_and_no_fault_of_the_network(
    answers: Callable[..., None], kinds: int, kind: type[Exception]
) -> None:
    answers(kinds)
    with pytest.raises(kind), notes.refusing_old_cudnn():
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED")

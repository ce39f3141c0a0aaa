"""Torch 2.7 lacks functions of later versions; and choices between kernels are counted."""

from collections import Counter
from typing import Any

import pytest
import torch

from harness.dry_runs import compiled
from harness.dry_runs.allocator_log import MOST_EVENTS, AllocatorLog
from harness.dry_runs.compiled import Compilations


def test_a_version_that_cannot_clear_a_history_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str | None, int]] = []

    def record(
        enabled: str | None, context: Any = 0, stacks: Any = 0, max_entries: int = 0
    ) -> None:
        begun.append((enabled, max_entries))

    monkeypatch.setattr(torch.cuda.memory, "_record_memory_history", record)
    monkeypatch.setattr(torch._C, "_cuda_record_memory_history", None, raising=False)
    AllocatorLog(1, lambda: None, lambda device: (device, 0))
    assert begun == [(None, 0), ("all", MOST_EVENTS)]


def test_a_compilation_of_which_nothing_is_said_is_timed() -> None:
    said: list[str] = []
    compilations = Compilations(said.append, {})
    compilations._on_start()
    compilations._on_end()
    assert compilations._seconds > 0
    assert said == []


def test_choices_that_are_made_later_are_in_the_counter_that_was_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "after_import", lambda *_: None)
    choices = Counter[str]()
    watched = compiled.watch(lambda _: None, choices)
    choices["mm: ATen of 2 kernels"] += 1
    assert watched._unmeasured == {"mm: ATen of 2 kernels": 1}

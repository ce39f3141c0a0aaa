"""Adds functions of torch 2.7 that the recorder of allocations needs to torch 2.4."""

from typing import Any

from harness.prediction.after_import import after_import


def _clears_history(memory: Any) -> None:
    """Clear a history at its end, as torch 2.4 does."""
    real = memory._record_memory_history_impl

    def record(*arguments: Any, clear_history: bool = False, **named: Any) -> None:
        if clear_history:
            real(None)
        real(*arguments, **named)

    memory._record_memory_history_impl = record


after_import("torch.cuda.memory", _clears_history)

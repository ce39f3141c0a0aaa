"""torch 2.4: what the recorder of allocations asks of torch 2.7, an older one has not."""

from typing import Any

from harness.prediction.after_import import after_import


def _clears_history(memory: Any) -> None:
    """Have a history be cleared by its end, as torch 2.4 does."""
    real = memory._record_memory_history_impl

    def record(*arguments: Any, clear_history: bool = False, **named: Any) -> None:
        if clear_history:
            real(None)
        real(*arguments, **named)

    memory._record_memory_history_impl = record


after_import("torch.cuda.memory", _clears_history)

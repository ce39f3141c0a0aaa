"""``MemoryCheck`` for ``transformers.Trainer``."""

from typing import Any

from torch import nn
from transformers import TrainerCallback

from harness.callbacks.step_check import StepCheck


class MemoryCheck(StepCheck, TrainerCallback):  # type: ignore[misc]  # it has no types here
    """Predicts the memory of the first training step and compares it after the second.

    ``Trainer(..., callbacks=[MemoryCheck()])``; the arguments are those of ``StepCheck``. A
    training of several processes is not asked; a line says what to type instead.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **seen: Any) -> None:
        """Wait for the first batch."""
        del control
        if args.world_size > 1:
            why = f"it is one of {args.world_size} processes"
            self.do_not_ask(why, ranks=args.world_size, is_first=state.is_world_process_zero)
            return
        cast = "bfloat16" if args.bf16 else "float16" if args.fp16 else None
        steps = args.gradient_accumulation_steps

        def first(model: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            hook.remove()
            inputs = named or positional
            self.ask(model, inputs, seen["optimizer"], autocast=cast, accumulate=steps)

        hook = seen["model"].register_forward_pre_hook(first, with_kwargs=True)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Compare after the second step."""
        self.after_step()

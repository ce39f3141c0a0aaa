"""``MemoryCheck`` for the Trainer of Lightning."""

import copy
from typing import Any

from lightning.pytorch import Callback
from torch import nn

from harness.callbacks.step_check import StepCheck

_AUTOCAST = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}


class _TrainingStep(nn.Module):
    """A module whose forward pass is ``training_step``, without its trainer."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = copy.copy(module)
        vars(self.module).update(_trainer=None, _modules=dict(module._modules))

    def forward(self, batch: Any) -> Any:
        return self.module.training_step(batch, 0)


class MemoryCheck(StepCheck, Callback):  # type: ignore[misc]  # it has no types
    """Predicts the memory of the first training step and compares it after the second.

    ``Trainer(..., callbacks=[MemoryCheck()])``; the arguments are those of ``StepCheck``. It is not
    asked of several processes, several optimizers, or a ``training_step`` that uses its trainer,
    for which a line says what to type instead.
    """

    _done = 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
        """Predict before the first step."""
        self._done = trainer.global_step
        if trainer.world_size > 1 or len(trainer.optimizers) != 1:
            why = f"{trainer.world_size} processes, {len(trainer.optimizers)} optimizers"
            ranks, is_first = trainer.world_size, trainer.is_global_zero
            self.do_not_ask(f"{why}: it knows one of each", ranks=ranks, is_first=is_first)
            return
        self.ask(
            _TrainingStep(module),
            (batch,),
            trainer.optimizers[0],
            autocast=_AUTOCAST.get(str(trainer.precision)),
            accumulate=trainer.accumulate_grad_batches,
        )

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Compare after the second step."""
        if trainer.global_step > self._done:
            self.after_step()

"""One step of any module: the names that ``harness profile`` knows, made real."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.schema.errors import HarnessError
from harness.schema.module_request import LOSSES, OPTIMIZERS
from harness.training.nested_tensors import tensors

LEARNING_RATE = 0.01

Loss = Callable[[Any, Any], Tensor]


class StepError(HarnessError):
    """The module and the description of its step do not fit together."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """All that a step reads and writes."""

    model: nn.Module
    x: Tensor
    y: Tensor | None
    optimizer: torch.optim.Optimizer | None
    loss: str | Loss
    mode: str


def make_optimizer(
    named: str | Callable[[Iterable[Tensor]], torch.optim.Optimizer], parameters: Sequence[Tensor]
) -> torch.optim.Optimizer | None:
    """Return the optimizer of a name, or what a function makes of the parameters."""
    if callable(named):
        return named(parameters)
    if named not in OPTIMIZERS:
        raise StepError(f"optimizer: {named!r}: one of {', '.join(OPTIMIZERS)}")
    if named == "none" or not parameters:
        return None
    match named:
        case "adam":
            return torch.optim.Adam(parameters)
        case "adamw":
            return torch.optim.AdamW(parameters)
        case "momentum":
            return torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.9)
        case _:
            return torch.optim.SGD(parameters, lr=LEARNING_RATE)


def run_step(step: Step, phase: Callable[[str], AbstractContextManager[object]]) -> None:
    """Run one step: gradients dropped, forward, backward, update; or a forward pass alone."""
    if step.mode == "inference":
        with phase("forward"), torch.no_grad():
            step.model(step.x)
        return
    with phase("optimizer"):
        (step.optimizer or step.model).zero_grad(set_to_none=True)
    with phase("forward"):
        loss = loss_of(step.loss, step.model(step.x), step.y)
    with phase("backward"):
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
    with phase("optimizer"):
        if step.optimizer is not None:
            step.optimizer.step()


def loss_of(named: str | Loss, output: Any, y: Tensor | None) -> Tensor:
    """Return the loss, a scalar; ``sum`` adds up every floating tensor of any output."""
    if callable(named):
        return named(output, y)
    if named not in LOSSES:
        raise StepError(f"loss: {named!r}: one of {', '.join(LOSSES)}")
    if named == "sum":
        return _sum(output)
    if not isinstance(output, Tensor):
        raise StepError(f"loss: {named!r}: the output is a {type(output).__name__}; use sum")
    if named == "mean-square":
        return output.square().mean()
    if output.dim() != 2:
        shape = tuple(output.shape)
        raise StepError(f"loss: {named!r}: wants (batch, classes), the output is {shape}; use sum")
    return nn.functional.cross_entropy(output, y)  # type: ignore[arg-type]


def _sum(output: Any) -> Tensor:
    sums = [t.sum() for t in tensors(output) if t.is_floating_point()]
    if not sums:
        raise StepError("loss: 'sum': the output holds no floating tensor")
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return total

"""Runs one step of any network, and creates optimizers and losses by name.

Each phase of a step runs inside ``phase(name)``, a context manager that the caller supplies.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.schema.errors import StepError
from harness.schema.step_choices import LEARNING_RATE, LOSSES, OPTIMIZERS
from harness.schema.training_run import ZeroGrad
from harness.training.nested_tensors import tensors

Loss = Callable[[Any, Any], Tensor]
OptimizerMaker = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
Phase = Callable[[str], AbstractContextManager[object]]


def no_phase(name: str) -> AbstractContextManager[object]:
    """Return a context manager that does nothing."""
    del name
    return nullcontext()


def announced_to(*phases: Phase) -> Phase:
    """Combine ``phase`` functions; the first function's context manager is the outermost."""

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        with ExitStack() as stack:
            for announce in phases:
                stack.enter_context(announce(name))
            yield

    return phase


@dataclass(frozen=True, kw_only=True)
class BuiltStep:
    """A step that is ready to run: its network, batch, optimizer and settings."""

    model: nn.Module
    x: Any
    """The model's input: one tensor, or a tuple or dict of arguments."""
    y: Any
    optimizer: torch.optim.Optimizer | None
    loss: str | Loss = "cross-entropy"
    mode: str
    autocast: torch.dtype | None = None
    """Dtype of ``torch.autocast`` for forward pass and loss; None without autocast."""
    device_type: str = "cpu"
    accumulate: int = 1
    """Number of micro-batches in the step; the gradients of all micro-batches are added up."""
    is_split: bool = False
    """True if micro-batches are parts of ``x`` and ``y``; the loss is divided in phase "backward".
    If False, each micro-batch is all of ``x`` and ``y``; the loss is divided in phase "forward".
    """

    def micro_batches(self) -> Iterable[tuple[Any, Any]]:
        """For each micro-batch, return the input and the labels."""
        if self.is_split and self.accumulate > 1:
            parts = self.accumulate
            return zip(self.x.tensor_split(parts), self.y.tensor_split(parts), strict=True)
        return [(self.x, self.y)] * self.accumulate


def make_optimizer(
    named: str | OptimizerMaker, parameters: Sequence[Tensor]
) -> torch.optim.Optimizer | None:
    """Create an optimizer by its name, or with a function that takes the parameters."""
    if callable(named):
        return named(parameters)
    if named not in OPTIMIZERS:
        raise StepError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {named!r}")
    return named_optimizer(named, parameters, LEARNING_RATE) if parameters else None


def named_optimizer(
    name: str, parameters: Iterable[Tensor], learning_rate: float, *, foreach: bool | None = None
) -> torch.optim.Optimizer | None:
    """Create an optimizer by its name; return None for ``none``."""
    match name:
        case "none":
            return None
        case "adam":
            return torch.optim.Adam(parameters, foreach=foreach)
        case "adamw":
            return torch.optim.AdamW(parameters, foreach=foreach)
        case _:
            momentum = 0.9 if name == "momentum" else 0
            return torch.optim.SGD(parameters, learning_rate, momentum, foreach=foreach)


def run_step(
    step: BuiltStep, phase: Phase = no_phase, *, zero_grad: ZeroGrad = "before_forward"
) -> None:
    """Run a training step (forward, backward, optimizer) or, in inference, only the forward pass.

    ``zero_grad`` chooses when the previous step's gradients are freed. Most training loops free
    gradients before the forward pass; the course note frees gradients after the forward pass.
    """
    if step.mode == "inference":
        with phase("forward"), torch.no_grad(), _autocast(step):
            _output(step.model, step.x)
        return
    early, late = (1, step.accumulate) if step.is_split else (step.accumulate, 1)
    if zero_grad == "before_forward":
        free_gradients(step, phase)
    for number, (x, y) in enumerate(step.micro_batches()):
        with phase("forward"), _autocast(step):
            loss = _divided(loss_of(step.loss, _output(step.model, x), y, x), early)
        if number == 0 and zero_grad == "after_forward":
            free_gradients(step, phase)
        with phase("backward"):
            _divided(loss, late).backward()  # type: ignore[no-untyped-call]
            del loss
    with phase("optimizer"):
        if step.optimizer is not None:
            step.optimizer.step()


def free_gradients(step: BuiltStep, phase: Phase = no_phase) -> None:
    """Free the gradients of the previous step."""
    with phase("optimizer"):
        (step.optimizer or step.model).zero_grad(set_to_none=True)


def _divided(loss: Tensor, parts: int) -> Tensor:
    return loss / parts if parts > 1 else loss


def _output(model: nn.Module, x: Any) -> Any:
    match x:
        case dict():
            return model(**x)
        case tuple() | list():
            return model(*x)
        case _:
            return model(x)


def _autocast(step: BuiltStep) -> AbstractContextManager[object]:
    if step.autocast is None:
        return nullcontext()
    return torch.autocast(step.device_type, step.autocast)


def loss_of(named: str | Loss, output: Any, y: Tensor | None, x: object = None) -> Tensor:
    """Return the loss of a model's output as a scalar tensor.

    The loss ``sum`` adds up all floating-point tensors in the output. If ``x`` contains tokens
    (batch, ...), ``cross-entropy`` is computed for each token of an output (batch, ..., classes).
    If an example has one label, the label is repeated for each token of the example.
    """
    if callable(named):
        return named(output, y)
    if named not in LOSSES:
        raise StepError(f"loss must be one of {', '.join(LOSSES)}, got {named!r}")
    if named == "sum":
        return _sum(output)
    if named == "model":
        return _loss_in(output)
    if not isinstance(output, Tensor):
        rule = f"loss {named!r} needs a tensor, the output is a {type(output).__name__}"
        own = "; give the model its labels (--input labels=int64:SHAPE) and use loss model"
        raise StepError(f"{rule}{own if _has(output, 'logits') else ''}; or use loss sum")
    if named == "mean-square":
        return output.square().mean()
    if output.dim() == 2:
        return nn.functional.cross_entropy(output, y)  # type: ignore[arg-type]
    if y is not None and output.dim() > 2 and _has_tokens(x, output.shape[:-1]):
        labels = y.view(-1, *[1] * (output.dim() - 2)) if y.dim() == 1 else y
        each = labels.expand(output.shape[:-1]).flatten()
        return nn.functional.cross_entropy(output.flatten(0, -2), each)
    shape = tuple(output.shape)
    raise StepError(
        f"loss {named!r} needs an output (batch, classes), or (batch, ..., classes) for tokens "
        f"(batch, ...), got {shape}; use loss {'model' if output.dim() == 0 else 'sum'}"
    )


def _has(output: object, name: str) -> bool:
    return name in output if isinstance(output, dict) else hasattr(output, name)


def _has_tokens(x: object, shape: torch.Size) -> bool:
    return any(not one.is_floating_point() and one.shape == shape for one in tensors(x))


def _loss_in(output: Any) -> Tensor:
    """Return the loss in the model's output: ``.loss``, ``["loss"]`` or the only scalar tensor."""
    part = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", output)
    scalars = [t for t in tensors(part) if t.dim() == 0 and t.is_floating_point()]
    if len(scalars) == 1:
        return scalars[0]
    kind, count = type(output).__name__, len(scalars) or "none"
    rule = "loss 'model' needs one scalar in the output"
    raise StepError(f"{rule}, which is a {kind} with {count}; give --loss MODULE:CALLABLE")


def _sum(output: Any) -> Tensor:
    sums = [t.sum() for t in tensors(output) if t.is_floating_point()]
    if not sums:
        raise StepError("loss 'sum' needs a floating-point tensor in the output, which has none")
    return sum(sums[1:], sums[0])

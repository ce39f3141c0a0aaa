"""Finds the category of each storage, e.g. parameter or gradient."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from harness.instruments.allocation_trace import AllocationRecorder, storage_addresses
from harness.instruments.parameter_parts import parts_of_parameter
from harness.training.nested_tensors import tensors


def parameter_addresses(model: nn.Module) -> dict[int, str]:
    """Map the storage addresses of ``model``'s parameters and buffers to ``parameter``."""
    parameters = [part for one in model.parameters() for part in parts_of_parameter(one)]
    return storage_addresses([*parameters, *model.buffers()], "parameter")


def gradient_addresses(model: nn.Module) -> dict[int, str]:
    """Map the storage addresses of ``model``'s present gradients to ``gradient``."""
    return storage_addresses(gradients(model.parameters()), "gradient")


def state_addresses(optimizer: Optimizer | None) -> dict[int, str]:
    """Map the storage addresses of ``optimizer``'s state to ``optimizer_state``."""
    if optimizer is None:
        return {}
    return storage_addresses(list(tensors(optimizer.state)), "optimizer_state")


def input_addresses(*inputs: object) -> dict[int, str]:
    """Map the storage addresses of the tensors in ``inputs`` to ``input``."""
    return storage_addresses(list(tensors(inputs)), "input")


def gradients(held: Iterable[Tensor]) -> list[Tensor]:
    """Return the existing gradients of tensors."""
    return [tensor.grad for tensor in held if tensor.grad is not None]


def updated_by(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters that ``optimizer`` updates."""
    return [p for group in optimizer.param_groups for p in group["params"]]


@contextmanager
def marked_steps(
    recorder: AllocationRecorder, *, parameters: bool = False
) -> Iterator[list[Optimizer]]:
    """Mark gradients before each optimizer step, and the optimizer's state after each step.

    With ``parameters``, also mark the parameters. Yield a list to which each step of an optimizer
    adds the optimizer.
    """
    stepped: list[Optimizer] = []

    def before(optimizer: Optimizer, *_: object) -> None:
        stepped.append(optimizer)
        recorder.accumulates = True
        held = updated_by(optimizer)
        if parameters:
            recorder.mark(storage_addresses(held, "parameter"))
        recorder.mark(storage_addresses(gradients(held), "gradient"))

    def after(optimizer: Optimizer, *_: object) -> None:
        recorder.mark(state_addresses(optimizer))

    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    try:
        yield stepped
    finally:
        for hook in hooks:
            hook.remove()

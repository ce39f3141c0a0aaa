"""The role of each tensor over time, which decides the category of allocator events."""

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
    """Return the storages of ``model``'s parameters and buffers."""
    parameters = [part for one in model.parameters() for part in parts_of_parameter(one)]
    return storage_addresses([*parameters, *model.buffers()], "parameter")


def gradient_addresses(model: nn.Module) -> dict[int, str]:
    """Return the storages of the gradients that ``model`` holds now."""
    return storage_addresses(gradients(model.parameters()), "gradient")


def state_addresses(optimizer: Optimizer | None) -> dict[int, str]:
    """Return the storages of the tensors in ``optimizer``'s state."""
    if optimizer is None:
        return {}
    return storage_addresses(list(tensors(optimizer.state)), "optimizer_state")


def input_addresses(*inputs: object) -> dict[int, str]:
    """Return the storages of the tensors in ``inputs``, nested in any containers."""
    return storage_addresses(list(tensors(inputs)), "input")


def gradients(held: Iterable[Tensor]) -> list[Tensor]:
    """Return the current gradients of tensors."""
    return [tensor.grad for tensor in held if tensor.grad is not None]


def updated_by(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters that ``optimizer`` updates."""
    return [p for group in optimizer.param_groups for p in group["params"]]


@contextmanager
def marked_steps(
    recorder: AllocationRecorder, *, parameters: bool = False
) -> Iterator[list[Optimizer]]:
    """Mark gradients before the step of any optimizer, and the optimizer's state after the step.

    With ``parameters``, parameters are marked, too. Yields the list of optimizers, one per step.
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

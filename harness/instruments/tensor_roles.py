"""The facts that turn allocator events into categories: which tensors are what, and when."""

import torch
from torch import nn

from harness.instruments.allocation_trace import storage_addresses
from harness.training.nested_tensors import tensors


def parameter_addresses(model: nn.Module) -> dict[int, str]:
    """Return the storages of ``model``'s parameters and buffers."""
    return storage_addresses([*model.parameters(), *model.buffers()], "parameter")


def gradient_addresses(model: nn.Module) -> dict[int, str]:
    """Return the storages of the gradients that ``model`` holds now."""
    held = [p.grad for p in model.parameters() if p.grad is not None]
    return storage_addresses(held, "gradient")


def state_addresses(optimizer: torch.optim.Optimizer | None) -> dict[int, str]:
    """Return the storages of the tensors in ``optimizer``'s state."""
    if optimizer is None:
        return {}
    return storage_addresses(list(tensors(optimizer.state)), "optimizer_state")


def input_addresses(*inputs: object) -> dict[int, str]:
    """Return the storages of the tensors in ``inputs``, nested in any containers."""
    return storage_addresses(list(tensors(inputs)), "input")

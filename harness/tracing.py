"""The facts that turn allocator events into categories: which tensors are what, and when."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from harness.instruments.allocator import storage_addresses, storages_of


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


def addresses(tensors: Iterable[Tensor], category: str) -> dict[int, str]:
    """Return ``{address: category}`` of the tensors' storages."""
    return storage_addresses(tensors, category)


def tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in ``value``, nested in any containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from tensors(item)


def storages(tensor: Tensor) -> list[torch.UntypedStorage]:
    """Return the storages behind ``tensor``: a sparse one has its indices and its values."""
    return storages_of(tensor)

"""Finds the GPU blocks of parameters, gradients, optimizer states and buffers."""

import contextlib
import gc
from collections.abc import Callable

import torch

from harness.instruments.parameter_parts import parts_of_parameter
from harness.schema.block_categories import BlockCategory

Owners = dict[int, BlockCategory]
"""Categories by address."""


def owned(optimizer: torch.optim.Optimizer) -> Owners:
    """Return the blocks of an optimizer's parameters, gradients and states."""
    owners: Owners = {}
    for group in getattr(optimizer, "param_groups", ()):
        for parameter in group["params"]:
            own(owners, parameter, "parameter")
            own(owners, parameter.grad, "gradient")
    # An optimizer that keeps its state elsewhere, such as torchao's CPUOffloadOptimizer, has none.
    for state in getattr(optimizer, "state", {}).values():
        for value in state.values() if isinstance(state, dict) else ():
            own(owners, value, "optimizer_state")
    return owners


def owned_in_process(on_optimizer: Callable[[torch.optim.Optimizer], object]) -> Owners:
    """Return the blocks of all modules, parameters and optimizers in the process."""
    owners: Owners = {}
    for thing in gc.get_objects():
        kind = type(thing)  # isinstance would have lazy objects load themselves
        if issubclass(kind, torch.nn.Parameter):
            for part in parts_of_parameter(thing):
                own(owners, part, "parameter")
            own(owners, thing.grad, "gradient")
        elif issubclass(kind, torch.nn.Module):
            for buffer in thing._buffers.values():
                own(owners, buffer, "buffer")
        elif issubclass(kind, torch.optim.Optimizer):
            owners = owned(thing) | owners
            on_optimizer(thing)
    return owners


def own(owners: Owners, value: object, category: BlockCategory) -> None:
    """Add a tensor's GPU block to ``owners``; ignore other values."""
    if not isinstance(value, torch.Tensor):
        return
    local = getattr(value, "_local_tensor", value)  # of a DTensor: this rank's part
    if local.is_cuda and local.layout == torch.strided:
        # The output of a CUDA graph that was replayed since has no address any more.
        with contextlib.suppress(RuntimeError):
            owners.setdefault(local.untyped_storage().data_ptr(), category)

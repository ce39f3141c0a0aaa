"""Builds networks for ``torch.compile`` with an activation budget; workers import this file."""

import torch._functorch.config
from torch import nn

from . import networks


def budgeted(budget: float, network: str, **arguments: int) -> nn.Module:
    """Return a network of ``networks``, and set the activation budget for code compiled later."""
    torch._functorch.config.activation_memory_budget = budget
    made: nn.Module = getattr(networks, network)(**arguments)
    return made

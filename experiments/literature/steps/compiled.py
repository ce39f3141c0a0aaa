"""Builds networks for ``torch.compile`` with an activation budget; workers import this file."""

import torch._functorch.config
from torch import nn

from . import networks


def budgeted(budget: float, network: str, **arguments: int) -> nn.Module:
    """Set the activation budget for ``torch.compile``, and return a network of ``networks.py``."""
    torch._functorch.config.activation_memory_budget = budget
    made: nn.Module = getattr(networks, network)(**arguments)
    return made

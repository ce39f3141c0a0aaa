"""Networks whose compiled code gets an activation budget; a worker imports this file."""

import torch._functorch.config
from torch import nn

from . import networks


def budgeted(budget: float, network: str, **arguments: int) -> nn.Module:
    """Return a network of ``networks``; code compiled later keeps at most this share of bytes."""
    torch._functorch.config.activation_memory_budget = budget
    made: nn.Module = getattr(networks, network)(**arguments)
    return made

"""The multiplications of a step, counted by PyTorch; a worker imports this file, with torch."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from . import networks


def flops(network: str, size: int, device: str = "meta", **arguments: Any) -> dict[str, int]:
    """Return the floating-point operations of the matmuls of a forward and a backward pass.

    ``size`` is the batch of a chain, and the sequence of a transformer's one example.
    """
    with torch.device(device):
        if network == "chain":
            model = networks.chain(**arguments)
            x = torch.empty(size, arguments["width"])
        else:
            model = networks.transformer(**arguments)
            dtype = getattr(torch, arguments.get("dtype", "float32"))
            x = torch.empty(1, size, arguments["hidden"], dtype=dtype)
        with FlopCounterMode(display=False) as forward:
            loss = model(x).sum()
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    return {"forward": forward.get_total_flops(), "backward": backward.get_total_flops()}

"""Measures the peak of training torchvision's ViT-L/16, as in PyTorch's tutorial."""

import torch
from torch.optim import Adam, Optimizer
from torchvision.models import vit_l_16

from .small_states import adam_in_backward


def step_peak(fused: bool) -> dict[str, int]:
    """Return the number of parameters, and the allocated peak of three steps with one image."""
    model = vit_l_16().to("cuda")
    make = adam_in_backward if fused else Adam
    optimizer: Optimizer = make(model.parameters())
    for _ in range(3):
        model(torch.rand(1, 3, 224, 224, device="cuda")).sum().backward()
        optimizer.step()
        if not fused:
            optimizer.zero_grad()
    return {
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "parameters": sum(one.numel() for one in model.parameters()),
    }

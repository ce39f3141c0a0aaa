"""peft#1142, #525, FastChat#581: checkpointing of a frozen model with adapters.

The reentrant kind needs an input with a gradient, which the embedding of a frozen model lacks. So
it fails ("grad"), or is turned off ("off"). "fixed" uses the non-reentrant kind.
"""

import sys

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

WIDTH, RANK, DEPTH = 2048, 8, 12


class Adapted(nn.Module):
    """A frozen layer plus two narrow layers."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.down = nn.Linear(WIDTH, RANK, bias=False)
        self.up = nn.Linear(RANK, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both paths."""
        return torch.nn.functional.gelu(self.base(x) + self.up(self.down(x)))


embedding = nn.Embedding(1000, WIDTH).requires_grad_(False).cuda()
layers = nn.ModuleList(Adapted() for _ in range(DEPTH)).cuda()
optimizer = torch.optim.AdamW([p for p in layers.parameters() if p.requires_grad])
for _ in range(2):
    x = embedding(torch.zeros(8, 1024, dtype=torch.long, device="cuda"))
    for layer in layers:
        if "off" in sys.argv:
            x = layer(x)
        else:
            x = checkpoint(layer, x, use_reentrant="fixed" not in sys.argv)
    x.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()

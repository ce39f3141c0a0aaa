"""pytorch#193193: a compiled backward pass keeps the recomputed activations of many blocks.

The compiled function runs the same checkpointed blocks twice. "fixed" compiles one run of them.
"""

import sys

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """Normalization and a feed-forward layer, with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block."""
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


blocks = nn.ModuleList(Block(256) for _ in range(12)).cuda()


def run(x: torch.Tensor) -> torch.Tensor:
    """Run the checkpointed blocks, and return the mean square of the output."""
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False)
    return x.square().mean()


def run_both(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Run the blocks on two inputs."""
    return run(a) + run(b)


a, b = torch.ones(2, 8192, 256, device="cuda")
if "fixed" in sys.argv:
    run = torch.compile(run)
else:
    run_both = torch.compile(run_both)
for _ in range(2):
    run_both(a, b).backward()

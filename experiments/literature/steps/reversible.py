"""Reversible blocks (Gomez et al. 2017): the backward pass can recompute inputs from outputs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class Coupled(nn.Module):
    """A block with additive coupling: y1 = x1 + F(x2) and y2 = x2 + G(y1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.second = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs y1 and y2."""
        y1 = x1 + self.first(x2)
        return y1, x2 + self.second(y1)


class _Rebuilt(Function):
    """Autograd function that runs several blocks, and saves only the last block's output."""

    @staticmethod
    def forward(ctx: Any, x1: Tensor, x2: Tensor, blocks: list[nn.Module]) -> tuple[Tensor, Tensor]:
        for block in blocks:
            x1, x2 = block(x1, x2)
        ctx.blocks = blocks
        ctx.save_for_backward(x1, x2)
        return x1, x2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (y1, y2), (d1, d2) = ctx.saved_tensors, gradients
        for block in reversed(ctx.blocks):
            y2, d1 = _undone(block.second, y1, y2, d2, d1)
            y1, d2 = _undone(block.first, y2, y1, d1, d2)
        return d1, d2, None


def _undone(
    module: nn.Module, given: Tensor, total: Tensor, gradient: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``total - module(given)``, and ``other`` plus the gradient of ``given``."""
    leaf = given.detach().requires_grad_()
    with torch.enable_grad():
        output = module(leaf)
    torch.autograd.backward(output, gradient)
    return total - output.detach(), other if leaf.grad is None else other + leaf.grad


class ReversibleStack(nn.Module):
    """``depth`` blocks in ``stages`` equal stages, each of which begins with a linear layer.

    With ``rebuild``, a stage keeps only the last output of its blocks; without, autograd keeps its
    usual tensors.
    """

    def __init__(self, depth: int, width: int, rebuild: bool, stages: int = 1) -> None:
        super().__init__()
        self.rebuild = rebuild
        self.between = nn.ModuleList(nn.Linear(2 * width, 2 * width) for _ in range(stages))
        runs = ([Coupled(width) for _ in range(depth // stages)] for _ in range(stages))
        self.runs = nn.ModuleList(map(nn.ModuleList, runs))
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores for ``x`` of shape (batch, 2 width)."""
        for linear, run in zip(self.between, self.runs, strict=True):
            x1, x2 = linear(x).chunk(2, 1)
            blocks = list(run.children())
            if self.rebuild:
                x1, x2 = _Rebuilt.apply(x1, x2, blocks)
            else:
                for block in blocks:
                    x1, x2 = block(x1, x2)
            x = torch.cat((x1, x2), 1)
        scores: Tensor = self.head(x)
        return scores

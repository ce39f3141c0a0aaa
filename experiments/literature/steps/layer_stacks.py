"""Stacks of equal layers: every kind that can be frozen, and convolutions with their norms."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

SIDE = 16
"""Extent of every dimension but the batch, so that each kind of layer fits."""

SLOPE, EPSILON = 0.01, 1e-5

KINDS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(SIDE, SIDE),
    "convolution": lambda: nn.Conv2d(SIDE, SIDE, 3, padding=1),
    "batch norm": lambda: nn.BatchNorm2d(SIDE),
    "batch norm, eval": lambda: Evaluated(SIDE),
    "layer norm": lambda: nn.LayerNorm(SIDE),
    "linear + ReLU": lambda: nn.Sequential(nn.Linear(SIDE, SIDE), nn.ReLU()),
    "GELU": nn.GELU,
    "dropout": lambda: nn.Dropout(0.1),
}


class Evaluated(nn.BatchNorm2d):
    """Batch norm that uses its running statistics in every mode."""

    def train(self, _: bool = True) -> "Evaluated":
        """Stay in evaluation mode."""
        super().train(False)
        return self


class FrozenStack(nn.Module):
    """A linear layer, ``depth`` layers of one kind, and a head; ``trained`` says which learn."""

    def __init__(self, kind: str, depth: int, trained: str) -> None:
        super().__init__()
        self.stem = nn.Linear(SIDE, SIDE)
        self.layers = nn.Sequential(*(KINDS[kind]() for _ in range(depth)))
        self.head = nn.Linear(SIDE, 10)
        self.layers.requires_grad_(trained == "all")
        self.stem.requires_grad_(trained != "head")

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores of (batch, SIDE, SIDE, SIDE)."""
        scores: Tensor = self.head(self.layers(self.stem(images)).mean((1, 2)))
        return scores


def mlp(depth: int, width: int, features: int = 784, classes: int = 10) -> nn.Module:
    """Return the note's MLP: ``depth`` hidden layers with ReLU."""
    sizes = (features, *(width for _ in range(depth)))
    hidden = (nn.Sequential(nn.Linear(n, m), nn.ReLU()) for n, m in pairwise(sizes))
    return nn.Sequential(*hidden, nn.Linear(width, classes))


class _NormInPlace(Function):
    """Batch norm and leaky ReLU that overwrite their input and keep only their output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
        scale = variance.add_(EPSILON).rsqrt_()
        x.sub_(mean).mul_(scale).mul_(_wide(weight)).add_(_wide(bias))
        nn.functional.leaky_relu_(x, SLOPE)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x, weight, bias, scale)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Work on two new tensors of the size of ``z``, as the authors' kernels do."""
        z, weight, bias, scale = ctx.saved_tensors
        gradient = torch.ops.aten.leaky_relu_backward(gradients[0], z, SLOPE, True)
        normed = nn.functional.leaky_relu(z, 1 / SLOPE)  # the inverse of the activation
        normed.sub_(_wide(bias)).div_(_wide(weight))
        products = ((g * n).sum((1, 2)) for g, n in zip(gradient, normed, strict=True))
        of_bias, of_weight = gradient.sum((0, 2, 3)), torch.stack(list(products)).sum(0)
        examples = z.numel() // z.shape[1]
        normed.mul_(_wide(of_weight / examples)).add_(_wide(of_bias / examples))
        return gradient.sub_(normed).mul_(_wide(weight) * scale), of_weight, of_bias


def _wide(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1)


class NormInPlace(nn.Module):
    """Rota Bulo et al. 2018 in plain operators: the inverse of leaky ReLU gives the input back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Overwrite ``x`` with its normalized, activated self."""
        normed: Tensor = _NormInPlace.apply(x, self.weight, self.bias)
        return normed


def conv_stack(depth: int, channels: int, norm: str) -> nn.Module:
    """Return ``depth`` times convolution, norm and activation, and a head.

    Args:
        depth: number of convolutions.
        channels: of each.
        norm: ``leaky`` or ``relu``, each after batch norm, or ``in place``.

    """
    layers: list[nn.Module] = []
    for before in (3, *(channels for _ in range(depth - 1))):
        layers.append(nn.Conv2d(before, channels, 3, padding=1, bias=False))
        layers += _norm(channels, norm)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(*layers, *head)


def _norm(channels: int, norm: str) -> list[nn.Module]:
    if norm == "in place":
        return [NormInPlace(channels)]
    activation = nn.ReLU() if norm == "relu" else nn.LeakyReLU(SLOPE)
    return [nn.BatchNorm2d(channels), activation]

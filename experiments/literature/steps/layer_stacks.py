"""Builds the course note's MLP for the claims of the literature."""

from itertools import pairwise

from torch import nn


def mlp(depth: int, width: int, features: int = 784, classes: int = 10) -> nn.Module:
    """Return the course note's MLP, with ``depth`` hidden layers and ReLU."""
    sizes = (features, *(width for _ in range(depth)))
    hidden = (nn.Sequential(nn.Linear(n, m), nn.ReLU()) for n, m in pairwise(sizes))
    return nn.Sequential(*hidden, nn.Linear(width, classes))

"""Networks drawn by a seed from common layers, for combinations that public models lack.

A network has a few blocks that map sequences (batch, length, width) or images to the same shape,
and a head. Numbers, optimizers and types are also drawn.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.training.own_step import OwnStep

COUNT = 124


class Called(nn.Module):
    """Layers and the function that calls them."""

    def __init__(self, call: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        """Return the result of the function for the layers and the input."""
        return self.call(*self.layers, x)


def _cells(cell: nn.Module, x: Tensor) -> Tensor:
    state: Any = None
    outputs = []
    for part in x.unbind(1):
        state = cell(part) if state is None else cell(part, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs, 1)


def _distances(out: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = out(torch.cdist(x, x))
    return answer


def _of_sequences(draw: random.Random, length: int, width: int) -> nn.Module:
    heads = draw.choice((2, 4, 8))
    blocks: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
        lambda: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU()),
        lambda: nn.TransformerEncoderLayer(width, heads, 2 * width, batch_first=True),
        lambda: Called(
            lambda layer, x: layer(x, x, x, need_weights=False)[0],
            nn.MultiheadAttention(width, heads, batch_first=True),
        ),
        lambda: Called(lambda layer, x: layer(x)[0], nn.GRU(width, width, batch_first=True)),
        lambda: Called(lambda layer, x: layer(x)[0], nn.LSTM(width, width, batch_first=True)),
        lambda: Called(_cells, nn.LSTMCell(width, width)),
        lambda: Called(_cells, nn.GRUCell(width, width)),
        lambda: Called(_distances, nn.Linear(length, width)),
        lambda: Called(
            lambda layer, x: layer(x.transpose(1, 2)).transpose(1, 2),
            nn.Conv1d(width, width, 3, padding=1),
        ),
        lambda: nn.Sequential(nn.Dropout(0.1), nn.Softmax(-1), nn.Linear(width, width)),
        lambda: Called(lambda layer, x: x * functional.softplus(layer(x)), nn.Linear(width, width)),
    )
    return draw.choice(blocks)()


def _of_images(draw: random.Random, channels: int) -> nn.Module:
    blocks: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()),
        lambda: nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)),
        lambda: nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels), nn.GELU()
        ),
        lambda: nn.Sequential(nn.GroupNorm(4, channels), nn.SiLU()),
        lambda: nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ConvTranspose2d(2 * channels, channels, 2, stride=2),
        ),
    )
    return draw.choice(blocks)()


def _network(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    draw = random.Random(seed)
    depth = draw.randint(2, 6)
    if draw.random() < 0.6:
        length, width = draw.choice((32, 64, 128)), draw.choice((64, 128, 256, 512))
        blocks = [_of_sequences(draw, length, width) for _ in range(depth)]
        shape: tuple[int, ...] = (length, width)
        head = nn.Sequential(nn.Flatten(), nn.Linear(length * width, 10))
    else:
        size, width = draw.choice((32, 64)), draw.choice((16, 32, 64))
        first = nn.Conv2d(3, width, 3, padding=1)
        blocks = [first, *(_of_images(draw, width) for _ in range(depth))]
        shape = (3, size, size)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    if draw.random() < 0.2:
        blocks[0].requires_grad_(False)
    return nn.Sequential(*blocks, head), shape


def random_step(seed: int) -> OwnStep:
    """Return the training step of a network, given its number."""
    draw = random.Random(-1 - seed)
    return OwnStep(
        build=lambda: _network(seed)[0],
        batch=draw.choice((4, 16, 64)),
        inputs=partial(_inputs, _network(seed)[1]),
        optimizer=draw.choice(("sgd", "momentum", "adam", "adamw")),
        autocast=draw.choice((None, None, "float16", "bfloat16")),
    )


def _inputs(shape: tuple[int, ...], batch: int) -> tuple[Tensor, Tensor]:
    return (
        torch.zeros(batch, *shape, device="cuda"),
        torch.zeros(batch, dtype=torch.int64, device="cuda"),
    )

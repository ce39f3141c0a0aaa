"""Networks of plain modules that several claims use; worker processes import this file."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint


class Segmented(nn.Module):
    """A sequence of layers, checkpointed in segments of ``segment`` layers; 0 means no checkpoints.

    The checkpointed layers do not use random numbers, so the state of the random number generator
    (5,056 B per segment) is not saved.
    """

    def __init__(self, layers: Sequence[nn.Module], segment: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.segment = segment

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the output of the last layer."""
        if not self.segment:
            return self._run(hidden, 0, len(self.layers))
        for start in range(0, len(self.layers), self.segment):
            stop = min(start + self.segment, len(self.layers))
            hidden = checkpoint(
                self._run, hidden, start, stop, use_reentrant=False, preserve_rng_state=False
            )
        return hidden

    def _run(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        for layer in self.layers[start:stop]:
            hidden = layer(hidden)
        return hidden


def chain(depth: int, width: int, segment: int = 0, dtype: str = "float32") -> nn.Module:
    """Return a simple deep network as in Chen et al.: ``depth`` linear layers with ReLU."""
    layers = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth)]
    return Segmented(layers, segment).to(getattr(torch, dtype))


class Attention(nn.Module):
    """Self-attention with ``heads`` heads, in plain operators or with PyTorch's SDPA."""

    def __init__(self, hidden: int, heads: int, *, sdpa: bool, drop: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.project = nn.Linear(hidden, hidden)
        self.heads, self.sdpa, self.drop = heads, sdpa, drop

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, (batch, sequence, hidden)."""
        batch, length, hidden = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, hidden // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        if self.sdpa:
            mixed = scaled_dot_product_attention(query, key, value, dropout_p=self.drop)
        else:
            scores = query @ key.transpose(-2, -1) / (hidden // self.heads) ** 0.5
            mixed = dropout(scores.softmax(-1), self.drop, training=self.drop > 0) @ value
        return dropout(
            self.project(mixed.transpose(1, 2).reshape(batch, length, hidden)),
            self.drop,
            training=self.drop > 0,
        )


class Block(nn.Module):
    """A pre-norm transformer layer with attention and an MLP of four times the width."""

    def __init__(self, hidden: int, heads: int, *, sdpa: bool, drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads, sdpa=sdpa, drop=drop)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, (batch, sequence, hidden)."""
        x = x + self.attention(self.norm1(x))
        wide = nn.functional.gelu(self.up(self.norm2(x)))
        return x + dropout(self.down(wide), self.drop, training=self.drop > 0)


def transformer(
    layers: int,
    hidden: int,
    heads: int,
    sdpa: bool = False,
    drop: float = 0.0,
    segment: int = 0,
    dtype: str = "float32",
) -> nn.Module:
    """Return a transformer whose input has the shape (batch, sequence, hidden)."""
    blocks = [Block(hidden, heads, sdpa=sdpa, drop=drop) for _ in range(layers)]
    return Segmented(blocks, segment).to(getattr(torch, dtype))


class MasterAdamW(torch.optim.Optimizer):
    """AdamW on float32 copies of 16-bit parameters, as in ZeRO and Megatron.

    The float32 gradients are freed after the update unless ``keeps_gradients`` is True.
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, keeps_gradients: bool = False, fused: bool = False
    ) -> None:
        super().__init__(parameters, {})
        self._weights: list[Tensor] = self.param_groups[0]["params"]
        self._masters = [weight.detach().float() for weight in self._weights]
        self._inner = torch.optim.AdamW(self._masters, fused=fused or None)
        self._keeps_gradients = keeps_gradients

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no loss again
        """Update the float32 copies, and round the copies into the 16-bit parameters."""
        del closure
        for weight, master in zip(self._weights, self._masters, strict=True):
            assert weight.grad is not None
            master.grad = weight.grad.float()
            if self._keeps_gradients:
                weight.grad = None
        self._inner.step()
        with torch.no_grad():
            for weight, master in zip(self._weights, self._masters, strict=True):
                weight.copy_(master)
                self.state[weight] = {"master": master, **self._inner.state[master]}
                if not self._keeps_gradients:
                    master.grad = None


zero_adamw = MasterAdamW
"""ZeRO's optimizer; parameters, gradients and states need 2 + 2 + 12 bytes per parameter."""
zero_fused_adamw = partial(MasterAdamW, fused=True)
"""ZeRO's optimizer with PyTorch's fused AdamW."""
megatron_adamw = partial(MasterAdamW, keeps_gradients=True)
"""Megatron's optimizer with 2 + 4 + 12 bytes per parameter, because gradients are kept in
float32."""
fused_adamw = partial(torch.optim.AdamW, fused=True)
"""PyTorch's fused AdamW."""


def normed(depth: int, width: int) -> nn.Module:
    """Return linear layers with GELU and layer norm; the compiler can fuse GELU and layer norm."""
    layers = [
        nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(depth)
    ]
    return Segmented(layers, 0)

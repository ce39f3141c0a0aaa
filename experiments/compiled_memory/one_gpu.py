"""Trains an uncompiled or a compiled network on one GPU; worker processes import this file."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harness.schema.workload import Workload
from harness.training.data import source
from harness.training.module_step import run_step
from harness.training.training_step import build

from . import TOKENS

STEPS = 3
"""Number of training steps; only the last is measured, as the autotuner allocates in the first."""


def train(
    network: Literal["mlp", "transformer"], compiled: bool, **workload: Any
) -> dict[str, int]:
    """Train the MLP of a workload, or a transformer with the workload's width and depth.

    Returns:
        The bytes that the last forward pass keeps, and the peaks of the last step.
    """
    own = Workload(device="cuda", **workload)
    built = build(own, source(own), _transformer if network == "transformer" else None)
    if compiled:
        built.model.compile(fullgraph=True)
    kept = 0

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        nonlocal kept
        before = _requested("current")
        yield
        if name == "forward":
            kept = _requested("current") - before

    for _ in range(STEPS):
        torch.cuda.reset_peak_memory_stats()
        run_step(built, phase)
    return {
        "kept": kept,
        "requested_peak_bytes": _requested("peak"),
        "allocated_peak_bytes": torch.cuda.max_memory_allocated(),
        "reserved_peak_bytes": torch.cuda.max_memory_reserved(),
    }


def _requested(when: str) -> int:
    return int(torch.cuda.memory_stats()[f"requested_bytes.all.{when}"])


def _transformer(workload: Workload, dtype: torch.dtype, device: torch.device) -> Any:
    widths = workload.widths
    made = Transformer(len(widths), widths[0], workload.classes, tokens=TOKENS)
    return made.to(device, dtype)


class Transformer(nn.Module):
    """Transformer of plain modules, with attention and an MLP in each block.

    The input has the shape (batch, tokens x width), and the logits have the shape (batch, classes).
    """

    def __init__(self, depth: int, width: int, classes: int, *, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.blocks = nn.Sequential(*(TransformerBlock(width) for _ in range(depth)))
        self.predictor = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of sequences."""
        hidden = self.blocks(x.view(len(x), self.tokens, -1)).mean(1)
        logits: Tensor = self.predictor(hidden)
        return logits


class TransformerBlock(nn.Module):
    """Attention (head size 64) and an MLP of four times the width, with residual connections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of shape (batch, tokens, width)."""
        heads = self.qkv(self.attention_norm(x)).view(*x.shape[:2], 3, -1, 64)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind()
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        done: Tensor = x + self.mlp(self.norm(x))
        return done

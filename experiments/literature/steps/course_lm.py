"""The language model of Stanford's CS336, measured as in two published runs on real GPUs.

Students of CS336 write every part themselves: RMS norm, rotary positions, SwiGLU, attention that
keeps the scores, and an AdamW that allocates new states in each step. This file runs the same
operators as EnzoDing-rgb/cs336-assignment2-systems, in different code.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from harness.instruments.cuda_counters import free_workspaces


def softmax(x: Tensor) -> Tensor:
    """Return the softmax over the last dimension, computed with elementary operators.

    As in the students' code, local variables keep intermediate results alive.
    """
    shifted = x - torch.max(x, dim=-1, keepdim=True)[0]
    exponentials = torch.exp(shifted)
    return exponentials / torch.sum(exponentials, dim=-1, keepdim=True)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the output of attention that keeps scores of shape (..., sequence, sequence)."""
    scores = torch.einsum("...qd,...kd->...qk", query, key) / math.sqrt(key.shape[-1])
    if mask is not None:
        scores = torch.where(mask, scores, float("-inf"))
    return torch.einsum("...qk,...kd->...qd", softmax(scores), value)


class Matrix(nn.Module):
    """A linear layer without bias."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outer, inner))

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of shape (..., inner) to shape (..., outer)."""
        return torch.einsum("...i,oi->...o", x, self.weight)


class RMSNorm(nn.Module):
    """Root mean square norm, computed with elementary operators."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of ``x``'s shape."""
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weight * x


class Layer(nn.Module):
    """A transformer layer with rotary positions and SwiGLU."""

    def __init__(self, size: int, heads: int, inner: int, rotation: Tensor) -> None:
        super().__init__()
        self.query, self.key, self.value = (Matrix(size, size) for _ in range(3))
        self.project = Matrix(size, size)
        self.gate, self.down, self.up = (
            Matrix(size, inner), Matrix(inner, size), Matrix(size, inner)
        )  # fmt: skip
        self.norm1, self.norm2 = RMSNorm(size), RMSNorm(size)
        self.heads = heads
        self.rotation: Tensor
        self.register_buffer("rotation", rotation, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, (batch, sequence, size)."""
        x = x + self._attention(self.norm1(x))
        y = self.norm2(x)
        gate = self.gate(y)
        wide: Tensor = self.down(gate * torch.sigmoid(gate) * self.up(y))
        return x + wide

    def _attention(self, x: Tensor) -> Tensor:
        batch, length, size = x.shape
        parts = (part(x) for part in (self.query, self.key, self.value))
        split = [part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts]
        query, key = (self._rotated(part) for part in split[:2])
        place = torch.arange(length, device=x.device)
        mask = (place[:, None] >= place[None, :])[None]
        mixed = attend(query, key, split[2], mask)
        joined: Tensor = self.project(mixed.transpose(1, 2).reshape(batch, length, size))
        return joined

    def _rotated(self, x: Tensor) -> Tensor:
        first, second = x.view(*x.shape[:-1], -1, 2).unbind(-1)
        cos, sin = self.rotation[:, : x.shape[-2]].unbind(0)
        return torch.concat((cos * first - sin * second, sin * first + cos * second), dim=-1)


class LanguageModel(nn.Module):
    """A language model, checkpointed in segments of ``segment`` layers; 0 means no checkpoints."""

    def __init__(
        self, *, words: int, length: int, size: int, layers: int, heads: int, inner: int,
        segment: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        rotation = torch.zeros(2, length, size // heads // 2)
        self.words = nn.Parameter(torch.empty(words, size))
        self.layers = nn.ModuleList(Layer(size, heads, inner, rotation) for _ in range(layers))
        self.norm, self.head = RMSNorm(size), Matrix(size, words)
        self.segment = segment

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits of shape (batch, sequence, words)."""
        hidden = self.words[tokens, :]
        step = self.segment or len(self.layers)
        for start in range(0, len(self.layers), step):
            part: Callable[..., Tensor] = self._run
            bounds = (start, min(start + step, len(self.layers)))
            if self.segment:
                hidden = checkpoint(part, hidden, *bounds, use_reentrant=False)
            else:
                hidden = part(hidden, *bounds)
        logits: Tensor = self.head(self.norm(hidden))
        return logits

    def _run(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        for layer in self.layers[start:stop]:
            hidden = layer(hidden)
        return hidden


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy, computed with elementary operators."""
    shifted = logits - torch.max(logits, dim=-1, keepdim=True)[0]
    log_softmax = shifted - torch.log(torch.sum(torch.exp(shifted), dim=-1, keepdim=True))
    return torch.mean(torch.gather(-log_softmax, -1, labels.unsqueeze(-1)))


class AdamW(torch.optim.Optimizer):
    """AdamW that allocates new moments in each step."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 1e-3})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no loss again
        """Update each parameter."""
        del closure
        for parameter in self.param_groups[0]["params"]:
            grad, state = parameter.grad.data, self.state[parameter]
            parameter.data -= 1e-3 * 0.01 * parameter.data
            before = [state.get(name, torch.zeros_like(grad)) for name in "mv"]
            m = 0.9 * before[0] + (0.1 * grad)
            v = 0.999 * before[1] + (0.001 * torch.square(grad))
            parameter.data -= 1e-3 * m / (torch.sqrt(v) + 1e-8)
            state["m"], state["v"] = m, v


def peak(
    batch: int, length: int, segment: int, layers: int, size: int, heads: int, inner: int,
    words: int = 10_000,
) -> dict[str, int]:  # fmt: skip
    """Return ``torch.cuda.max_memory_allocated()`` of the second step, as the course measures it.

    The peak includes the cuBLAS workspaces, which depend on the version of PyTorch.
    """
    with torch.device("cuda"):
        model = LanguageModel(
            words=words, length=length, size=size, layers=layers, heads=heads, inner=inner,
            segment=segment,
        )  # fmt: skip
        x, y = (torch.zeros(batch, length, dtype=torch.int64) for _ in range(2))
    optimizer = AdamW(model.parameters())
    for _ in range(2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        optimizer.zero_grad(set_to_none=True)
        logits = model(x)
        loss = cross_entropy(logits, y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found = torch.cuda.max_memory_allocated()
        del logits, loss
    return {"allocated_peak": found, "workspaces": free_workspaces()}


def attention(
    batch: int, length: int, width: int, kernel: str = "course", dtype: str = "float32",
    mask: bool = False,
) -> dict[str, int]:  # fmt: skip
    """Return the memory of attention, measured as in damek/cs336-assignment2-systems.

    The kernel ``course`` keeps scores and attention weights, and ``sdpa`` is PyTorch's own
    function. With ``mask``, ``sdpa`` gets a trainable mask.
    """
    make = functools.partial(torch.empty, device="cuda", dtype=getattr(torch, dtype))
    inputs = [make(batch, length, width, requires_grad=True) for _ in range(3)]
    numbers = make(length, length, requires_grad=True) if mask else None

    def forward() -> tuple[Tensor, Tensor]:
        if kernel == "course":
            mixed = attend(*inputs)
        else:  # one head
            query, key, value = (one.unsqueeze(1) for one in inputs)
            mixed = scaled_dot_product_attention(query, key, value, attn_mask=numbers)
        return mixed, mixed.sum()

    def step() -> None:
        out, loss = forward()
        loss.backward()  # type: ignore[no-untyped-call]
        for one in inputs if numbers is None else [*inputs, numbers]:
            one.grad = None
        del out

    out, loss = forward()
    loss.backward()  # type: ignore[no-untyped-call]
    step()
    torch.cuda.reset_peak_memory_stats()
    forward()
    forward_peak = torch.cuda.max_memory_allocated()
    before = torch.cuda.memory_allocated()
    out, loss = forward()
    saved = torch.cuda.memory_allocated() - before
    torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        step()
    backward_peak = torch.cuda.max_memory_allocated()
    del out, loss
    return {
        "inputs": before,
        "saved": saved,
        "forward_peak": forward_peak,
        "backward_peak": backward_peak,
        "workspaces": free_workspaces(),
    }

"""The language model of Stanford's course CS336 from plain operators, and its peaks by stage.

Attention, softmax, norms, SiLU, cross-entropy and AdamW are written as the course's are, since
each decides which tensors are alive; a published run of a real GPU stands beside its peaks.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

VOCABULARY, WIDTH, DEPTH, HEADS, INNER, BATCH = 10_000, 2560, 32, 32, 10_240, 4
"""Size xl of the course, and the batch of the published run."""


class _Matrix(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...i,oi->...o", x, self.weight)


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        kind = x.dtype
        x = x.to(torch.float32)
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)
        x = x * scale
        return (self.weight * x).to(kind)


class _Rotary(nn.Module):
    def __init__(self, context: int, width: int) -> None:
        super().__init__()
        speed = 10_000.0 ** -(torch.arange(0, width, 2) / width)
        angles = torch.outer(torch.arange(context).float(), speed)
        self.table = nn.Buffer(torch.stack((angles.cos(), angles.sin())), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        even, odd = torch.unflatten(x, -1, (-1, 2)).movedim(-1, 0).unbind(0)
        cos, sin = self.table[:, : x.shape[-2]].unbind(0)
        return torch.concat((cos * even - sin * odd, sin * even + cos * odd), -1)


def _softmax(x: Tensor) -> Tensor:
    x = x - torch.max(x, dim=-1, keepdim=True)[0]
    powers = torch.exp(x)
    return powers / torch.sum(powers, dim=-1, keepdim=True)


def _attended(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = torch.einsum("...qd,...kd->...qk", query, key) / math.sqrt(key.shape[-1])
    scores = torch.where(mask, scores, float("-inf"))
    weights = _softmax(scores)
    return torch.einsum("...qk,...kd->...qd", weights, value)


class _Attention(nn.Module):
    def __init__(self, rotary: _Rotary) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (_Matrix(WIDTH, WIDTH) for _ in range(4))
        self.rotary = rotary

    def forward(self, x: Tensor) -> Tensor:
        projected = (matrix(x) for matrix in (self.query, self.key, self.value))
        query, key, value = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in projected)
        query = self.rotary(query)
        key = self.rotary(key)
        places = torch.arange(x.shape[1], device=x.device)
        mask = (places[:, None] >= places[None, :])[None]
        attended = _attended(query, key, value, mask)
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2).contiguous())
        return output


class _Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = _Matrix(WIDTH, INNER), _Matrix(WIDTH, INNER)
        self.down = _Matrix(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.down(_silu(self.gate(x)) * self.up(x))
        return output


def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class _Block(nn.Module):
    def __init__(self, rotary: _Rotary) -> None:
        super().__init__()
        self.attention, self.mlp = _Attention(rotary), _Gated()
        self.first, self.second = _Norm(), _Norm()

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(self.first(x))
        middle = x + attended
        mixed = self.mlp(self.second(middle))
        output: Tensor = middle + mixed
        return output


class LanguageModel(nn.Module):
    """Embedding, blocks, norm and a head that shares no weights."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(VOCABULARY, WIDTH))
        rotary = _Rotary(context, WIDTH // HEADS)
        self.blocks = nn.ModuleList(_Block(rotary) for _ in range(DEPTH))
        self.norm, self.head = _Norm(), _Matrix(WIDTH, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scores of every token of the vocabulary."""
        x = self.embedding[tokens, :]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        scores: Tensor = self.head(x)
        return scores


def _cross_entropy(scores: Tensor, wanted: Tensor) -> Tensor:
    scores = scores - torch.max(scores, dim=-1, keepdim=True)[0]
    surprise = -(scores - torch.log(torch.sum(torch.exp(scores), dim=-1, keepdim=True)))
    return torch.mean(torch.gather(surprise, -1, wanted.unsqueeze(-1)))


class _AdamW(Optimizer):
    """AdamW that makes new moments at each step, as the course's does."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    def step(self, _: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            gradient, state = parameter.grad.data, self.state[parameter]
            parameter.data -= 1e-5 * parameter.data
            first = state.get("first", torch.zeros_like(gradient))
            second = state.get("second", torch.zeros_like(gradient))
            new = 0.9 * first + 0.1 * gradient
            squares = 0.999 * second + 0.001 * torch.square(gradient)
            parameter.data -= 1e-3 * new / (torch.sqrt(squares) + 1e-8)
            state["first"], state["second"] = new, squares


def stage_peaks(context: int, train: bool, autocast: bool) -> dict[str, int]:
    """Return the allocated peak of a forward pass, or of each stage of a training step.

    Args:
        context: tokens in each of four examples.
        train: whether to train, with two steps before; else two forward passes go before.
        autocast: whether forward pass and loss run under autocast to bfloat16.

    """
    with torch.device("cuda"):
        model = LanguageModel(context)
        shape = (BATCH, context)
        tokens, wanted = (torch.zeros(shape, dtype=torch.int64) for _ in range(2))
    optimizer = _AdamW(model.parameters())
    for _ in range(2):
        _stages(model, optimizer, tokens, wanted, train=train, autocast=autocast)
        torch.cuda.empty_cache()
    return _stages(model, optimizer, tokens, wanted, train=train, autocast=autocast)


def _stages(
    model: nn.Module,
    optimizer: Optimizer,
    tokens: Tensor,
    wanted: Tensor,
    *,
    train: bool,
    autocast: bool,
) -> dict[str, int]:
    peaks = {}

    def ended(stage: str) -> None:
        peaks[stage] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()

    optimizer.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    with _cast(autocast):
        scores = model(tokens)
    ended("forward")
    if train:
        with _cast(autocast):
            loss = _cross_entropy(scores, wanted)
        ended("loss")
        loss.backward()  # type: ignore[no-untyped-call]
        ended("backward")
        optimizer.step()
        ended("optimizer")
    return peaks


def _cast(autocast: bool) -> AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext()

"""Runs LSTM cells, GRU cells and pairwise distances with the same blocks as on CUDA.

On the meta device, PyTorch decomposes these functions into operators that allocate other blocks.

Source: aten/src/ATen/native/RNN.cpp (``LSTMCell``, ``GRUCell``), cuda/RNN.cu, Distance.cpp
(``_euclidean_dist``); tools/autograd/derivatives.yaml.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_aten = torch.ops.aten
_FEW_POINTS = 25
"""Largest number of points for which ``cdist`` does not use a matmul by default."""


def cell_functions() -> dict[Any, Callable[..., Any]]:
    """Return a dict from composite operators to the functions that replace them."""
    return {
        _aten.lstm_cell.default: _lstm_cell,
        _aten.gru_cell.default: _gru_cell,
        _aten.cdist.default: _cdist,
    }


class _FusedCell(torch.autograd.Function):
    """Fused LSTM or GRU cell, which runs after the matmuls of its gates."""

    @staticmethod
    def forward(
        ctx: Any, parts: int, inputs: Tensor, hidden: Tensor, state: Tensor, *biases: Tensor
    ) -> Any:
        """Return the new states; save a workspace, ``parts`` times as large as the state."""
        is_lstm = parts == 4
        rows, width = state.shape
        workspace = inputs.new_empty(rows, parts * width)
        made = [torch.empty_like(state) for _ in range(1 + is_lstm)]
        cell = made[1:]
        ctx.save_for_backward(inputs, hidden, state, *biases, workspace, *cell)
        ctx.parts = parts
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        del gradients
        inputs, hidden, state, *biases = ctx.saved_tensors
        of_inputs = torch.empty_like(inputs)
        is_lstm = ctx.parts == 4
        of_hidden = of_inputs if is_lstm else torch.empty_like(hidden)
        of_state = torch.empty_like(state)
        has_biases = len(biases) > 1 + is_lstm
        sums = [of_inputs.sum(0)] if has_biases else []
        sums += (sums if is_lstm else [of_hidden.sum(0)]) * has_biases
        return None, of_inputs, of_hidden, of_state, *sums


def _gates(given: Tensor, state: Tensor, weights: Sequence[Tensor | None]) -> Any:
    of_input, of_hidden, *biases = weights
    products = functional.linear(given, of_input), functional.linear(state, of_hidden)  # type: ignore[arg-type]
    kind = products[0].dtype
    return products, [bias.to(kind) for bias in biases if bias is not None]


def _lstm_cell(given: Tensor, states: Sequence[Tensor], *weights: Tensor | None) -> Any:
    products, biases = _gates(given, states[0], weights)
    cell = states[1].to(products[0].dtype)
    fused: Callable[..., Any] = _FusedCell.apply
    return fused(4, *products, cell, *biases)


def _gru_cell(given: Tensor, state: Tensor, *weights: Tensor | None) -> Any:
    products, biases = _gates(given, state, weights)
    fused: Callable[..., Any] = _FusedCell.apply
    (result,) = fused(5, *products, state.to(products[0].dtype), *biases)
    return result


class _EuclideanDistance(torch.autograd.Function):
    """Pairwise Euclidean distances, computed with one matmul."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        squares, others = (x.pow(2).sum(-1, keepdim=True) for x in (first, second))
        ones, more = torch.ones_like(squares), torch.ones_like(others)
        left = torch.cat([first.mul(-2), squares, ones], -1)
        right = torch.cat([second, more, others], -1)
        result = left.matmul(right.mT)
        result.clamp_min_(0).sqrt_()
        ctx.save_for_backward(first, second, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        first, second, result = ctx.saved_tensors
        ratio = gradients[0] / result
        ratio.masked_fill_(result == 0, 0)
        return (
            first * ratio.sum(-1, keepdim=True) - ratio.matmul(second),
            second * ratio.sum(-2).unsqueeze(-1) - ratio.mT.matmul(first),
        )


def _cdist(first: Tensor, second: Tensor, p: float = 2.0, mode: int | None = None) -> Any:
    many = max(first.shape[-2], second.shape[-2]) > _FEW_POINTS
    original = partial(_aten.cdist.default, first, second, p, mode)
    by_product = p == 2 and (mode == 1 or (not mode and many))
    if not by_product or not first.numel() or not second.numel():
        return original()
    if first.shape[:-2] != second.shape[:-2]:
        return original()
    distances: Callable[..., Tensor] = _EuclideanDistance.apply
    kind = torch.float32 if first.dtype in (torch.float16, torch.bfloat16) else first.dtype
    return distances(first.to(kind), second.to(kind))

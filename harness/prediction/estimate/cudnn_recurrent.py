"""Recurrent layers as cuDNN runs them: one call, and one reserve for the backward pass.

The reserve is cuDNN's own; it is counted as what any algorithm has to keep, as the dry run does:
gates, cell states, and the outputs between layers.

Source: aten/src/ATen/native/cudnn/RNN.cpp; harness/dry_run/stub/cudnn_rnn.c.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.prediction.estimate.meta_autocast import cast_arguments, without_autocast

Function = Callable[..., Any]


class _Layers(torch.autograd.Function):
    """All layers of a network: output, last states and reserve."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, shape: Sequence[int], reserve: int, *held: Tensor) -> Any:
        """Keep input, initial states, weights, output and reserve; ``shape`` is the output's."""
        output = given.new_empty(shape)
        kept = given.new_empty(reserve)
        states = [torch.empty_like(state) for state in held[:2] if state.dim() == 3]
        ctx.save_for_backward(given, *held, output, kept)
        return output, *states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        given, *held = ctx.saved_tensors[:-2]
        gradients[0].contiguous()
        made = [torch.empty_like(t) for t in (given, *held)]
        wanted = (ctx.needs_input_grad[0], *ctx.needs_input_grad[3:])
        results = [g if want else None for g, want in zip(made, wanted, strict=True)]
        return results[0], None, None, *results[1:]


def _network(gates: int, original: Function) -> Function:
    """Return ``torch.lstm`` or another with that many gates; packed input stays as it is."""
    has_cell = gates == 4  # an LSTM's

    def run(given: Tensor, hx: Any, *rest: Any) -> Any:
        if isinstance(hx, Tensor) and hx.dim() == 1:  # the batch sizes of a packed sequence
            return original(given, hx, *rest)
        weights, _, layers, _, train, bidirectional, _ = rest
        states = list(hx) if has_cell else [hx]
        given, *held = cast_arguments(given, *states, *weights)
        directions, hidden = 1 + bidirectional, states[-1].shape[-1]
        projected = states[0].shape[-1]
        positions = given.shape[0] * given.shape[1] * directions
        each = positions * ((gates + has_cell) * hidden * layers + (layers - 1) * projected)
        shape = (*given.shape[:2], directions * projected)
        with without_autocast():
            results: Any = _Layers.apply(given, shape, each if train else 0, *held)
        return results[: 1 + len(states)]

    return run


_torch: Any = torch
RECURRENT: dict[Function, Function] = {
    _torch.lstm: _network(4, _torch.lstm),
    _torch.gru: _network(3, _torch.gru),
    _torch.rnn_tanh: _network(1, _torch.rnn_tanh),
    _torch.rnn_relu: _network(1, _torch.rnn_relu),
}
"""By PyTorch's function, what runs on the simulated GPU."""

"""Recurrent networks as PyTorch's own CUDA kernels run them, one fused cell per step.

cuDNN's kernels, which run where cuDNN is enabled, keep a reserve whose size it alone knows.

Source: aten/src/ATen/native/RNN.cpp (``FullLayer``, ``apply_layer_stack``), cuda/RNN.cu.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Any]
State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, Sequence[Tensor]], State]


def _lstm_cell(given: Tensor, state: State, weights: Sequence[Tensor]) -> State:
    hidden, memory = state
    gates = torch.matmul(given, weights[0].t()), torch.matmul(hidden, weights[1].t())
    kernel: Any = torch.ops.aten._thnn_fused_lstm_cell
    found = kernel(*gates, memory, *weights[2:4])
    return found[0], found[1]


def _gru_cell(given: Tensor, state: State, weights: Sequence[Tensor]) -> State:
    (hidden,) = state
    gates = torch.matmul(given, weights[0].t()), torch.matmul(hidden, weights[1].t())
    kernel: Any = torch.ops.aten._thnn_fused_gru_cell
    return (kernel(*gates, hidden, *weights[2:4])[0],)


def _network(cell: Cell, original: Function, states: int) -> Function:
    """Return ``torch.lstm`` or ``torch.gru`` made of ``cell``; packed input stays as it is."""

    def run(given: Tensor, hx: Any, *rest: Any) -> Any:
        if isinstance(hx, Tensor) and hx.dim() == 1:  # the batch sizes of a packed sequence
            return original(given, hx, *rest)
        flat, has_biases, layers, dropout, train, bidirectional, batch_first = rest
        initial = [s.unbind(0) for s in (hx if states > 1 else [hx])]
        each = len(flat) // (layers * (1 + bidirectional))
        weights = [list(flat[i : i + each]) for i in range(0, len(flat), each)]
        if has_biases and each > 4:
            return original(given, hx, *rest)  # a projection
        values = given.transpose(0, 1) if batch_first else given
        ends: list[State] = []
        for layer in range(layers):
            outputs = []
            for direction in range(1 + bidirectional):
                place = layer * (1 + bidirectional) + direction
                start = tuple(s[place] for s in initial)
                output, end = _layer(cell, values, start, weights[place], reverse=direction == 1)
                outputs.append(output)
                ends.append(end)
            values = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if dropout and train and layer < layers - 1:
                values = torch.native_dropout(values, dropout, True)[0]
        output = values.transpose(0, 1) if batch_first else values
        return (output, *(torch.stack(list(parts), 0) for parts in zip(*ends, strict=True)))

    return run


def _layer(
    cell: Cell, values: Tensor, state: State, weights: Sequence[Tensor], *, reverse: bool
) -> tuple[Tensor, State]:
    steps = values.unbind(0)
    outputs = []
    for step in reversed(steps) if reverse else steps:
        state = cell(step, state, weights)
        outputs.append(state[0])
    if reverse:
        outputs.reverse()
    return torch.stack(outputs, 0), state


def _single(cell: Cell, states: int) -> Function:
    """Return ``torch.lstm_cell`` or ``torch.gru_cell`` made of ``cell``."""

    def run(given: Tensor, hx: Any, *weights: Tensor) -> Any:
        state = tuple(hx) if states > 1 else (hx,)
        found = cell(given, state, weights)
        return found if states > 1 else found[0]

    return run


_torch: Any = torch
RECURRENT: dict[Function, Function] = {
    _torch.lstm: _network(_lstm_cell, _torch.lstm, 2),
    _torch.gru: _network(_gru_cell, _torch.gru, 1),
    _torch.lstm_cell: _single(_lstm_cell, 2),
    _torch.gru_cell: _single(_gru_cell, 1),
}
"""By PyTorch's function, what runs on the simulated GPU."""

"""Recurrent layers of CUDA alone: cuDNN's, and the fused cells, by the CPU's functions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from harness.dry_runs.cpu_equivalents.table import (
    computes_for,
    gradients_of,
    seed_from,
    unread,
    wide,
)

_MODES: Final[tuple[Callable[..., tuple[Tensor, ...]], ...]] = (
    torch._VF.rnn_relu,
    torch._VF.rnn_tanh,
    torch._VF.lstm,
    torch._VF.gru,
)
"""The functions in the order in which cuDNN numbers its modes."""
_LSTM = 2


def _run(
    values: Tensor,
    hidden: Tensor,
    *tensors: Tensor,
    mode: int,
    stride: int,
    layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[int],
) -> tuple[Tensor, ...]:
    """Return the output and the last states. The cell state of an LSTM comes before its weights.

    A layer has two weights, three with a projection, and two biases more if it has any.
    """
    state: Tensor | tuple[Tensor, Tensor] = hidden
    if mode == _LSTM:
        state, tensors = (hidden, tensors[0]), tensors[1:]
    if dropout and train:
        seed_from(values, hidden, *tensors)
    options = (stride > 3, layers, dropout, train, bidirectional)
    if batch_sizes:
        sizes = torch.tensor(list(batch_sizes))
        return _MODES[mode](values, sizes, state, list(tensors), *options)
    return _MODES[mode](values, state, list(tensors), *options, batch_first)


@computes_for("_cudnn_rnn")
def _recurrent(
    values: Tensor,
    weights: Sequence[Tensor],
    stride: int,
    _buffer: Tensor | None,
    hidden: Tensor,
    cell: Tensor | None,
    mode: int,
    _size: int,
    _projection: int,
    layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[int],
    _state: Tensor | None,
) -> tuple[Tensor, ...]:
    cells = [cell] if cell is not None and mode == _LSTM else []
    out, *last = _run(
        values, hidden, *cells, *weights, mode=mode, stride=stride, layers=layers,
        batch_first=batch_first, dropout=dropout, train=train, bidirectional=bidirectional,
        batch_sizes=batch_sizes,
    )  # fmt: skip
    return (out, *(last if mode == _LSTM else [*last, unread()]), unread(), unread())


@computes_for("_cudnn_rnn_backward")
def _recurrent_gradients(
    values: Tensor,
    weights: Sequence[Tensor],
    stride: int,
    _buffer: Tensor,
    hidden: Tensor,
    cell: Tensor | None,
    _out: Tensor,
    gradient: Tensor | None,
    hidden_gradient: Tensor | None,
    cell_gradient: Tensor | None,
    mode: int,
    _size: int,
    _projection: int,
    layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[int],
    _state: Tensor | None,
    _reserve: Tensor,
    _mask: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    run = partial(
        _run, mode=mode, stride=stride, layers=layers, batch_first=batch_first, dropout=dropout,
        train=train, bidirectional=bidirectional, batch_sizes=batch_sizes,
    )  # fmt: skip
    cells = [cell] if cell is not None and mode == _LSTM else []
    given = [gradient, hidden_gradient, cell_gradient][: 3 if cells else 2]
    made = gradients_of(run, [values, hidden, *cells, *weights], given)
    to_cell = made[2] if cells else unread()
    return made[0], made[1], to_cell, made[2 + len(cells) :]


@computes_for("_thnn_fused_lstm_cell")
def _lstm_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    cell: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    gates = wide(input_gates) + wide(hidden_gates)
    if input_bias is not None and hidden_bias is not None:
        gates = gates + input_bias + hidden_bias
    enter, keep, new, leave = gates.chunk(4, 1)
    enter, keep, new, leave = enter.sigmoid(), keep.sigmoid(), new.tanh(), leave.sigmoid()
    after = keep * cell + enter * new
    return leave * after.tanh(), after, torch.cat([enter, keep, new, leave], 1)


@computes_for("_thnn_fused_lstm_cell_backward_impl")
def _lstm_cell_gradients(
    gradient: Tensor | None,
    cell_gradient: Tensor | None,
    cell: Tensor,
    after: Tensor,
    workspace: Tensor,
    has_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    enter, keep, new, leave = wide(workspace).chunk(4, 1)
    given = torch.zeros_like(cell) if gradient is None else gradient
    inner = after.tanh()
    to_after = given * leave * (1 - inner**2)
    if cell_gradient is not None:
        to_after = to_after + cell_gradient
    gates = torch.cat(
        [
            to_after * new * enter * (1 - enter),
            to_after * cell * keep * (1 - keep),
            to_after * enter * (1 - new**2),
            given * inner * leave * (1 - leave),
        ],
        1,
    )
    return gates, to_after * keep, gates.sum(0) if has_bias else unread()


@computes_for("_thnn_fused_gru_cell")
def _gru_cell(
    input_gates: Tensor,
    hidden_gates: Tensor,
    hidden: Tensor,
    input_bias: Tensor | None = None,
    hidden_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if input_bias is not None and hidden_bias is not None:
        input_gates, hidden_gates = input_gates + input_bias, hidden_gates + hidden_bias
    inputs, hiddens = wide(input_gates).chunk(3, 1), wide(hidden_gates).chunk(3, 1)
    reset, update = (inputs[0] + hiddens[0]).sigmoid(), (inputs[1] + hiddens[1]).sigmoid()
    new = (inputs[2] + reset * hiddens[2]).tanh()
    workspace = torch.cat([reset, update, new, hidden, hiddens[2]], 1)
    return new + update * (hidden - new), workspace


@computes_for("_thnn_fused_gru_cell_backward")
def _gru_cell_gradients(gradient: Tensor, workspace: Tensor, has_bias: bool) -> tuple[Tensor, ...]:
    reset, update, new, hidden, product = wide(workspace).chunk(5, 1)
    to_new = gradient * (1 - update) * (1 - new**2)
    to_update = gradient * (hidden - new) * update * (1 - update)
    to_reset = to_new * product * reset * (1 - reset)
    inputs = torch.cat([to_reset, to_update, to_new], 1)
    hiddens = torch.cat([to_reset, to_update, to_new * reset], 1)
    biases = (inputs.sum(0), hiddens.sum(0)) if has_bias else (unread(), unread())
    return inputs, hiddens, gradient * update, *biases


@computes_for("_cudnn_rnn_flatten_weight", "_cudnn_init_dropout_state")
def _as_it_is(*_: object, **__: object) -> Tensor:
    """Keep what copies inside of the operator have written."""
    return unread()

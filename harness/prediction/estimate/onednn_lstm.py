"""The workspace that oneDNN's LSTM keeps from its forward to its backward pass, on the CPU.

One layer in one direction is one call. Its workspace has seven parts, each on pages of its own:
the gates, the hidden states, three of states and two of cell states. Rows are padded to 64 bytes,
and by 64 more where they would be multiples of 1 KiB.

Source: oneDNN, src/cpu/rnn/rnn_utils.cpp (``set_offsets``, ``get_good_ld``); which part has which
rows follows from 26 sizes measured with torch 2.13.
"""

from collections.abc import Sequence
from typing import Any

import torch

LAYER = torch.ops.aten.mkldnn_rnn_layer.default
_LSTM, _PAGE, _LINE, _ALIASING, _ELEMENT = 2, 4096, 64, 1024, 4


def with_workspace(args: Sequence[Any], results: Sequence[Any]) -> Sequence[Any]:
    """Return a call's results with a workspace of the right size, the last of them."""
    given, mode, hidden, trains = args[0], args[9], args[10], args[15]
    if mode != _LSTM or not trains or given.dtype is not torch.float32:
        return results
    length, batch, features = given.shape
    size = workspace_bytes(length, batch, features, hidden)
    return *results[:-1], given.new_empty(size, dtype=torch.uint8)


def workspace_bytes(length: int, batch: int, features: int, hidden: int) -> int:
    """Return the bytes of one layer's workspace, in one direction."""
    rows, states = length * batch, 2 * (length + 1) * batch
    parts = [
        rows * _row(4 * hidden),
        rows * _row(hidden),
        *[states * _row(max(hidden, features))] * 3,
        *[states * hidden * _ELEMENT] * 2,
    ]
    return sum(-(-part // _PAGE) * _PAGE for part in parts)


def _row(elements: int) -> int:
    """Return the bytes of a padded row."""
    padded = -(-elements * _ELEMENT // _LINE) * _LINE
    return padded + _LINE if padded % _ALIASING == 0 else padded

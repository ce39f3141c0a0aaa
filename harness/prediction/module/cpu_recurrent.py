"""The workspace that oneDNN's LSTM keeps from its forward to its backward pass.

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
LABEL = "aten::mkldnn_rnn_layer"
WORKSPACE = 3
"""Which result of the operator is the workspace."""

_PAGE = 4096
_ELEMENT = 4
_LSTM = 2
_LINE, _ALIASING = 64, 1024


def workspace_bytes(args: Sequence[Any]) -> int:
    """Return the bytes of the workspace of a call; 0 where there is none, or it is not known.

    Args:
        args: those of ``aten::mkldnn_rnn_layer``.

    """
    given, mode, hidden, trains = args[0], args[9], args[10], args[15]
    if mode != _LSTM or not trains or given.dtype is not torch.float32:
        return 0
    length, batch, features = given.shape
    return lstm_workspace_bytes(length, batch, features, hidden)


def lstm_workspace_bytes(length: int, batch: int, features: int, hidden: int) -> int:
    """Return the bytes of one layer's workspace, in one direction.

    >>> lstm_workspace_bytes(12, 2, 16, 32)
    57344

    """
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

"""Records a step on the CPU with fake tensors, which have no memory.

A dispatch mode records the results of each operator. The mode misses blocks that a CPU kernel
allocates and frees before the kernel returns, so the peak is a lower bound.

Source: torch/_subclasses/fake_tensor.py; torch/utils/_python_dispatch.py.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from harness.prediction.estimate.block_recorder import BlockRecorder, check_types
from harness.prediction.interpreter_state import patched_here
from harness.schema.errors import StepError
from harness.training.nested_tensors import tensors
from harness.training.own_step import ON_CUDA

INITIALISER = "the building read a number from a tensor; 0 was answered"
_LSTM_LAYER = torch.ops.aten.mkldnn_rnn_layer.default
_LSTM = 2


class CopiedFakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A fake mode that ``copy.deepcopy`` does not copy, so that copied tensors share the mode."""

    def __deepcopy__(self, memo: object) -> "CopiedFakeMode":
        return self


class CpuRecorder(BlockRecorder):  # type: ignore[no-untyped-call]
    """Records the results of each operator on fake tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.phase == "build" and func is torch.ops.aten._local_scalar_dense.default:
            # An initialiser asks whether to draw again: no. No size depends on it.
            self.notes[INITIALISER] = None
            return 0
        check_types(func, args)
        given = list(tensors((args, kwargs)))
        if given and not any(isinstance(tensor, FakeTensor) for tensor in given):
            with _disable_current_modes():  # of attributes that existed before: with their values
                return func(*args, **(kwargs or {}))
        else:
            result = func(*args, **(kwargs or {}))
        if func is _LSTM_LAYER and args[9] == _LSTM and args[15]:
            result = *result[:-1], _lstm_workspace(args)
        for tensor in (result,) if isinstance(result, Tensor) else tensors(result):
            self.see(tensor, func.name())
        return result


@contextmanager
def fake_cpu(recorder: CpuRecorder) -> Iterator[None]:
    """Replace CPU tensors by fake tensors in a ``with`` block; ``recorder`` records these."""
    converted = patched_here(torch.utils, "swap_tensors", _convert_in_place)
    silent = mock.patch.object(logging.getLogger("torch._subclasses.fake_tensor"), "disabled", True)
    with (
        converted,
        silent,
        CopiedFakeMode(allow_non_fake_inputs=True),
        recorder,
        warnings.catch_warnings(),
    ):
        # Copying a fake module, as nn.TransformerEncoder does, makes torch warn of itself.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        yield


def _convert_in_place(tensor: Tensor, converted: Tensor) -> None:
    """Give a parameter its converted data, as ``Module.to`` does with real tensors.

    For fake tensors, ``Module.to`` calls ``swap_tensors``, which fails if weak references exist.
    """
    if converted.device.type != "cpu":
        raise StepError(f"build: {ON_CUDA}")
    tensor.data = converted.data


def _lstm_workspace(args: Sequence[Any]) -> Tensor:
    """Return the workspace that oneDNN saves for the backward pass of a one-direction LSTM layer.

    The workspace contains gates, hidden states, three arrays of states and two arrays of cell
    states. Each part fills whole pages. Rows are padded to 64 bytes; 64 bytes more are added if the
    row size is then a multiple of 1 KiB (oneDNN, src/cpu/rnn/rnn_utils.cpp). The number of rows in
    each part of the workspace is derived from 26 sizes measured with torch 2.13 in float32.
    """
    (length, batch, features), hidden = args[0].shape, args[10]
    rows, states = length * batch, 2 * (length + 1) * batch
    parts = [
        rows * _row_bytes(4 * hidden),
        rows * _row_bytes(hidden),
        *[states * _row_bytes(max(hidden, features))] * 3,
        *[states * hidden * 4] * 2,
    ]
    size = sum(-(-part // 4096) * 4096 for part in parts)
    workspace: Tensor = args[0].new_empty(size, dtype=torch.uint8)
    return workspace


def _row_bytes(elements: int) -> int:
    padded = -(-elements * 4 // 64) * 64
    return padded + 64 if padded % 1024 == 0 else padded

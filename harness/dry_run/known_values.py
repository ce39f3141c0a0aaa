"""Values that can be known: followed below Python, in the stub and in PyTorch's dispatcher.

The stub gives device memory real bytes where a value is known (``stub/values.c``): after a copy
from the host, a fill, a copy of known bytes. The operators between (``arange``, ``==``, ``cumsum``,
``all``) are computed by their CPU kernels on those bytes (``stub/values.cpp``), when PyTorch tells
of an operator as it tells its profiler (``at::RecordFunction``).

Nothing above the dispatcher changes: no mode that would make ``torch.compile`` run eagerly, no
reference to a tensor that FSDP2 could not swap, no Python for an operator, and the operator's own
allocations are made as ever. Autograd's threads and compiled code are observed alike.

A known value becomes unknown when its block is allocated anew, and when something that is not
followed may have written it: an operator that the list does not name, by its schema; a kernel
outside of any operator (Triton), by its arguments. Weights, activations and large floating-point
tensors are not followed, nor random numbers of the GPU, nor what a replayed CUDA graph or a
collective leaves behind.
"""

import ctypes
import os
from collections.abc import Callable

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that holds the path of the library that ``build.py`` compiled."""

_Size = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64)
_kept: list[object] = []


def follow_values(on_size: Callable[[str, int], int]) -> None:
    """Follow the values of this process and its forks; called once.

    ``on_size`` gets the name of an operator whose result's size is not known, and the largest
    possible size (-1: not known); it returns the size, -1 for no answer.
    """

    def size(name: bytes, most: int) -> int:
        return on_size(name.decode(), most) + 1  # an error that is raised in here returns 0

    callback = _Size(size)
    _kept.append(callback)
    ctypes.CDLL(os.environ[LIBRARY_VARIABLE]).harness_follow_values(callback)

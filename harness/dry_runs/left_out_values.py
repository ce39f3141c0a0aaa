"""Postpones writing the initial values of large host tensors until something reads the values.

``stub/values/left_out.h`` postpones writes by PyTorch's operators. This module handles Python
functions that access a tensor's memory without an operator.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.dry_runs.trial_values import LIBRARY_VARIABLE
from harness.prediction.after_import import instead
from harness.schema.units import format_bytes

_READERS = (
    *((Tensor, name) for name in ("numpy", "tolist", "data_ptr", "__reduce_ex__", "__dlpack__")),
    *((torch.UntypedStorage, name) for name in ("__getitem__", "data_ptr", "resize_")),
    *((torch.UntypedStorage, name) for name in ("_share_filename_cpu_", "_share_fd_cpu_")),
    (torch._C._dynamo.guards, "assert_size_stride"),  # of what compiled code is called with
)
_UNSENT = (
    "the values of large parameters are not sent to the worker, and the code reads them on the host"
    ": give a function or a class that builds the network"
)
_begun: list[ctypes.CDLL] = []
_cut_off: list[bool] = []
"""For each call of ``trunc_normal_`` that left values out, whether the script had set a seed."""


def leave_values_out() -> None:
    """Start leaving out initial values, if this process has the library that tracks values."""
    if LIBRARY_VARIABLE not in os.environ or _begun:
        return
    library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
    for name in ("host_read", "is_left_out", "without_values"):
        getattr(library, f"harness_{name}").argtypes = [ctypes.c_void_p]
    for name in ("left_bytes", "left_peak", "together_peak"):
        getattr(library, f"harness_{name}").restype = ctypes.c_size_t
    _begun.append(library)
    seed = torch.initial_seed()
    library.harness_leave_values_out(ctypes.c_uint64(seed))
    for owner, name in _READERS:
        _read_first(owner, name, library)

    @instead(nn.init, "trunc_normal_")
    def trunc_normal_(
        cut_off: Callable[..., Tensor],
        tensor: Tensor,
        mean: float = 0.0,
        std: float = 1.0,
        a: float = -2.0,
        b: float = 2.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Clamp the random numbers only when a value is read, because clamping can take minutes."""
        if generator is None:
            with torch.no_grad():
                tensor.normal_(mean, std)
            if is_left_out(tensor):
                _cut_off.append(torch.initial_seed() != seed)
                with torch.no_grad():
                    return tensor.clamp_(a, b)
        return cut_off(tensor, mean, std, a, b, generator)


def is_left_out(tensor: Tensor) -> bool:
    """Return whether a tensor's values are left out."""
    return bool(_begun and _begun[0].harness_is_left_out(_storage(tensor)))


def take(storage: torch.UntypedStorage) -> None:
    """Register a storage that another process sent without values."""
    for library in _begun:
        library.harness_without_values(_storage(storage))


def unsent() -> str | None:
    """Return an error message if the code read values that were not sent to this process."""
    return _UNSENT if _begun and _begun[0].harness_unsent_was_read() else None


def most_left_out() -> int:
    """Return the peak size of the tensors whose values were left out, in bytes."""
    return int(_begun[0].harness_left_peak()) if _begun else 0


def most_with_left_out() -> int:
    """Return the peak of the sum of the process's memory and the left-out bytes."""
    return int(_begun[0].harness_together_peak()) if _begun else 0


def notes() -> tuple[str, ...]:
    """Return notes about left-out values, if there are any."""
    size = _begun[0].harness_left_bytes() if _begun else 0
    if not size:
        return ()
    left = (
        f"initial values of {format_bytes(size)} on the host were never written, because nothing"
        " read them before they were moved to the GPU"
    )
    other = "random numbers of the host differ from a real run's, although a seed was set"
    return (left, other) if any(_cut_off) else (left,)


def _storage(of: Tensor | torch.UntypedStorage) -> int:
    """Return the address that identifies a tensor's storage in the stub; 0 without a storage."""
    with contextlib.suppress(Exception):  # a wrapper, or a tensor without memory
        return int((of.untyped_storage() if isinstance(of, Tensor) else of)._cdata)
    return 0


def _read_first(owner: Any, name: str, library: ctypes.CDLL) -> None:
    """Replace a Python function, so that left-out values are written before the function runs."""

    @instead(owner, name)
    def reads(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        if given:
            library.harness_host_read(_storage(given[0]))
        return real(*given, **named)

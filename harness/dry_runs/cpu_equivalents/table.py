"""CPU functions for the operators that only CUDA has, or whose CPU kernel gives something else.

The stub computes an operator of the pretended GPU with the operator's CPU kernel, on CPU tensors
that share the GPU tensors' memory. An operator of this table is computed by its function instead.
A function takes the operator's arguments and returns the operator's results. A result that only
CUDA's own kernels read, such as a reserve of cuDNN, is returned as ``unread()``. A function that
writes its arguments does it in place.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from threading import Thread
from typing import Any, Final

import torch
from torch import Tensor

from harness.dry_runs.trial_values import LIBRARY_VARIABLE

_SPACE: Final = "harness_cpu"
_FUNCTIONS: Final[dict[str, Callable[..., object]]] = {}
_Define = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
_FAMILIES: Final = (
    "harness.dry_runs.cpu_equivalents.cuda_norms",
    "harness.dry_runs.cpu_equivalents.attention",
    "harness.dry_runs.cpu_equivalents.attention_of_positions",
    "harness.dry_runs.cpu_equivalents.recurrent_layers",
    "harness.dry_runs.cpu_equivalents.products",
    "harness.dry_runs.cpu_equivalents.sparse_products",
    "harness.dry_runs.cpu_equivalents.embedding_bags",
    "harness.dry_runs.cpu_equivalents.cudnn_operators",
)
_KEPT: Final[list[object]] = []
"""The callback and the operator library, which live as long as the process."""


def computes_for(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function in the table, for these ATen operators, e.g. ``mm.dtype``."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        _FUNCTIONS.update(dict.fromkeys(names, function))
        return function

    return enter


def function_of(name: str) -> Callable[..., object] | None:
    """Return the function of this table for an operator such as ``aten::mm.dtype``."""
    for family in _FAMILIES:
        import_module(family)
    space, _, overloaded = name.partition("::")
    if space != "aten":
        return None
    overloaded = overloaded.removesuffix(".")
    base, _, overload = overloaded.partition(".")
    plain = f"{base}.{overload.removesuffix('_out')}" if overload != "out" else base
    function = _FUNCTIONS.get(overloaded)
    if function is None and overload.endswith("out") and plain in _FUNCTIONS:
        return _writing_out(_FUNCTIONS[plain], torch._C._get_schema(f"aten::{base}", overload))
    return function


def _writing_out(function: Callable[..., Any], schema: Any) -> Callable[..., object]:
    """Return a function that writes its results to the arguments ``out`` of a schema."""
    names = [one.name for one in schema.arguments if one.is_out]

    def compute(*arguments: Any, **named: Any) -> Any:
        outs = [named.pop(name) for name in names]
        made = function(*arguments, **named)
        for out, one in zip(outs, [made] if len(names) == 1 else made, strict=True):
            if one.numel():
                out.resize_(one.shape).copy_(one)
        return outs[0] if len(outs) == 1 else tuple(outs)

    return compute


def offer_equivalents() -> None:
    """Let the stub ask for the functions of this table."""
    library = torch.library.Library(_SPACE, "FRAGMENT")  # type: ignore[no-untyped-call]

    def define(name: bytes, overload: bytes) -> int:
        overloaded = f"{name.decode()}.{overload.decode()}"
        function = function_of(overloaded)
        if function is None:
            return 0
        schema = str(torch._C._get_schema(name.decode(), overload.decode()))
        library.define(schema.removeprefix("aten::"))  # type: ignore[no-untyped-call]
        short = overloaded.removeprefix("aten::").removesuffix(".")
        library.impl(short, function, "CPU")  # type: ignore[no-untyped-call]
        return 1

    callback = _Define(define)
    _KEPT.extend((library, callback))
    ctypes.CDLL(os.environ[LIBRARY_VARIABLE]).harness_on_equivalent(callback)


def unread() -> Tensor:
    """Return a result that no function of this table reads."""
    return torch.empty(0, dtype=torch.uint8)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in the type in which CUDA's kernels compute: 32 bits at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def seed_from(*tensors: Tensor) -> None:
    """Seed the CPU's generator from values, so that a backward pass draws the same numbers."""
    total = sum(float(one.detach().double().sum()) for one in tensors)
    torch.default_generator.manual_seed(hash(total) & 0x7FFF_FFFF)


def gradients_of(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
) -> list[Tensor]:
    """Return the gradients of a function's inputs, by autograd.

    Another thread computes them, because autograd is turned off in the thread that asks. A function
    that calls ``seed_from`` leaves the script's own generator as it was.
    """
    random = torch.default_generator.get_state()
    found: list[Tensor] = []
    errors: list[Exception] = []

    def differentiate() -> None:
        try:
            leaves = [one.detach().requires_grad_() for one in inputs]
            made = function(*leaves)
            pairs = [
                (one, gradient)
                for one, gradient in zip(made, gradients, strict=True)
                if gradient is not None and one.requires_grad
            ]
            outputs, given = zip(*pairs, strict=True)
            found.extend(torch.autograd.grad(outputs, leaves, given, materialize_grads=True))
        except Exception as error:
            errors.append(error)

    thread = Thread(target=differentiate)
    thread.start()
    thread.join()
    torch.default_generator.set_state(random)
    if errors:
        raise errors[0]
    return found

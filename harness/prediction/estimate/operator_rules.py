"""Allocations of your own operators' CUDA kernels next to their results, as you state them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from torch import Tensor

from harness.schema.argument_checks import ArgumentError

OperatorRule = Callable[[Sequence[Any], Any], Sequence[int]]
Argument = TypeVar("Argument")
Result = TypeVar("Result")

REGISTERED: dict[str, OperatorRule] = {}


@overload
def register_operator(
    name: str, scratch: Callable[[Sequence[Tensor], Tensor], Sequence[int]]
) -> None: ...
@overload
def register_operator(
    name: str, scratch: Callable[[Sequence[Argument], Result], Sequence[int]]
) -> None: ...
def register_operator(name: str, scratch: object) -> None:
    """State what a CUDA kernel of your own allocates next to its results.

    Args:
        name: the operator, e.g. ``mylib::attention`` or ``mylib::attention.out``.
        scratch: a function of the operator's arguments and result, which are tensors on the meta
            device, numbers and so on, as the operator takes and returns them. It returns the
            sizes in bytes of the blocks that are alive until the operator returns.

    Returns:
        Nothing; every later prediction of this process uses the rule, also in place of one that
        the harness has.

    Raises:
        ArgumentError: ``name`` has no namespace, or ``scratch`` is not a function.

    >>> import harness
    >>> harness.register_operator("mylib::scan", lambda args, result: [4 * args[0].numel()])
    """
    if "::" not in str(name):
        raise ArgumentError(f"name must be an operator such as mylib::scan, got {name!r}")
    if not callable(scratch):
        kind = type(scratch).__name__
        raise ArgumentError(f"scratch must be a function of arguments and result, got a {kind}")
    REGISTERED[name] = scratch

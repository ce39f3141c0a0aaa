"""Numbers of Triton's interpreter, as a GPU has them.

Up to Triton 3.9, the interpreter keeps bfloat16 as integers and computes with these integers, cuts
a number instead of rounding it to bfloat16, and gives a comparison the type of its operands.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

_ARITHMETIC = ("unary_op", "binary_op", "ternary_op", "create_dot")


@contextlib.contextmanager
def as_on_a_gpu(interpreter: Any) -> Iterator[None]:
    """Mend the interpreter's numbers within a block of code.

    Arithmetic with bfloat16 is done in float32 and rounded to the nearest. A comparison is one bit,
    so that a scalar one can become a block of a mask.

    Raises:
        NotImplementedError: in the block, for a reduction, scan or atomic operation on bfloat16.
    """
    mended = _Mended(interpreter)
    builder, folds = interpreter.InterpreterBuilder, (interpreter.ReduceOps, interpreter.ScanOps)
    changed = [(builder, name, mended.arithmetic) for name in _ARITHMETIC]
    changed += [(builder, "cast_impl", mended.cast), (builder, "create_atomic_rmw", mended.whole)]
    changed += [(fold, "apply_impl", mended.whole) for fold in folds]
    inner = [getattr(owner, name) for owner, name, _ in changed]
    try:
        for (owner, name, change), function in zip(changed, inner, strict=True):
            setattr(owner, name, change(function))
        yield
    finally:
        for (owner, name, _), function in zip(changed, inner, strict=True):
            setattr(owner, name, function)


class _Mended:
    """Makes functions of the interpreter that know bfloat16 from its functions that do not."""

    def __init__(self, interpreter: Any) -> None:
        self._tl = interpreter.tl
        self._handle = interpreter.TensorHandle
        self._inner_cast = interpreter.InterpreterBuilder.cast_impl

    def _is_short(self, value: Any) -> bool:
        scalar = getattr(getattr(value, "dtype", None), "scalar", None)
        return bool(scalar == self._tl.bfloat16)

    def _wide(self, builder: Any, value: Any) -> Any:
        short = self._is_short(value)
        return self._inner_cast(builder, value, self._tl.float32) if short else value

    def _short(self, builder: Any, value: Any) -> Any:
        wide = self._inner_cast(builder, value, self._tl.float32)
        return self._handle(_rounded(wide.data), self._tl.bfloat16)

    def arithmetic(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compute with 32 bits; the last operand has the type of the result."""

        def compute(builder: Any, *operands: Any) -> Any:
            last = [one for one in operands if isinstance(one, self._handle)][-1]
            made = function(builder, *(self._wide(builder, one) for one in operands))
            if made.data.dtype == bool:
                return self._handle(made.data, self._tl.int1)
            return self._short(builder, made) if self._is_short(last) else made

        return compute

    def cast(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Go through float32 from and to bfloat16."""

        def cast(builder: Any, source: Any, to: Any) -> Any:
            if to.scalar != self._tl.bfloat16:
                return function(builder, self._wide(builder, source), to)
            return source if self._is_short(source) else self._short(builder, source)

        return cast

    def whole(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Refuse bfloat16, because a GPU rounds it in an order of its own."""

        def checked(*operands: Any) -> Any:
            values = [one for given in operands for one in _several(given)]
            if any(map(self._is_short, values)):
                raise NotImplementedError("a reduction or an atomic operation on bfloat16")
            return function(*operands)

        return checked


def _several(given: Any) -> tuple[Any, ...]:
    return given if isinstance(given, tuple) else (given,)


def _rounded(numbers: Any) -> Any:
    """Return 32-bit numbers as the bits of the nearest bfloat16."""
    import numpy as np
    import torch

    short = torch.from_numpy(np.array(numbers, dtype=np.float32)).bfloat16()
    return short.view(torch.int16).numpy().view(np.uint16)

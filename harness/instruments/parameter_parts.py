"""Finds the tensors of a parameter, including the tensors of its quantization."""

from collections.abc import Iterator

from torch import Tensor


def parts_of_parameter(parameter: Tensor) -> Iterator[Tensor]:
    """Yield the parameter and, if bitsandbytes quantized it, the tensors of the quantization."""
    yield parameter
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        values = (getattr(state, name, None) for name in ("absmax", "code", "offset"))
        yield from (value for value in values if isinstance(value, Tensor))
        state = getattr(state, "state2", None)

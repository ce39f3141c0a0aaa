"""The tensors that a parameter consists of."""

from collections.abc import Iterator

from torch import Tensor


def parts_of_parameter(parameter: Tensor) -> Iterator[Tensor]:
    """Yield a parameter, and the tensors that a quantized parameter of bitsandbytes also needs."""
    yield parameter
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        values = (getattr(state, name, None) for name in ("absmax", "code", "offset"))
        yield from (value for value in values if isinstance(value, Tensor))
        state = getattr(state, "state2", None)

"""Blocks of dropout: on the CPU a mask of the input's own type.

``at::dropout`` draws the mask, divides it by the share that stays, and multiplies. Its backward
pass needs the mask alone. (Source: aten/src/ATen/native/Dropout.cpp.) The mask is drawn in place
on every processor: torch 2.13's ``bernoulli_`` has no path through MKL's generator.
"""

from typing import NamedTuple

from harness.prediction.mlp.activations import CAST, NODE
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event


class Dropped(NamedTuple):
    """The blocks that one application leaves."""

    mask: Event
    output: Event


class Dropout:
    """Writes the events of ``nn.Dropout`` in training; in inference it does nothing."""

    _BACKWARD = f"{NODE}MulBackward0/MulBackward0/aten::mul"

    def __init__(self, writer: TraceWriter, element_bytes: int) -> None:
        self._writer = writer
        self._element_bytes = element_bytes

    def apply(self, size_bytes: int, module: str) -> Dropped:
        """Write the mask, and its product with the input."""
        allocate, free = self._writer.allocate, self._writer.free
        operator = "aten::dropout"
        like = f"{operator}/aten::empty_like/aten::empty_strided"
        mask = allocate(size_bytes, like, "activation", module)
        number = self._writer.take_on_host(8, f"{operator}/aten::div_", "temporary", module)
        if self._element_bytes != 8:
            cast = f"{operator}/aten::div_/aten::div_{CAST}"
            free(self._writer.take_on_host(self._element_bytes, cast, "temporary", module))
        free(number)
        return Dropped(mask, allocate(size_bytes, f"{operator}/aten::mul", "activation", module))

    def backward(self, size_bytes: int, module: str) -> Event:
        """Write the product of gradient and mask: the gradient of the input."""
        return self._writer.allocate(size_bytes, self._BACKWARD, "temporary", module)


class CudaDropout(Dropout):
    """The same as CUDA does it: one kernel draws a mask of a byte an element and multiplies.

    Source: aten/src/ATen/native/cuda/Dropout.cu (``dropout_cuda``).
    """

    _FORWARD = "aten::dropout/aten::native_dropout/aten::empty"
    _BACKWARD = f"{NODE}NativeDropoutBackward0/NativeDropoutBackward0/aten::native_dropout_backward"

    def apply(self, size_bytes: int, module: str) -> Dropped:
        """Write mask and output."""
        elements = size_bytes // self._element_bytes
        mask = self._writer.allocate(elements, self._FORWARD, "activation", module)
        output = self._writer.allocate(size_bytes, self._FORWARD, "activation", module)
        return Dropped(mask, output)

"""Dropout as CUDA does it: one kernel that draws a mask of a byte an element and multiplies.

Source: aten/src/ATen/native/cuda/Dropout.cu (``dropout_cuda``).
"""

from harness.prediction.mlp.activations import NODE
from harness.prediction.mlp.dropout import Dropout, Dropped


class CudaDropout(Dropout):
    """Writes the events of ``nn.Dropout`` in training; in inference it does nothing."""

    _FORWARD = "aten::dropout/aten::native_dropout/aten::empty"
    _BACKWARD = f"{NODE}NativeDropoutBackward0/NativeDropoutBackward0/aten::native_dropout_backward"

    def apply(self, size_bytes: int, module: str) -> Dropped:
        """Write mask and output."""
        elements = size_bytes // self._element_bytes
        mask = self._writer.allocate(elements, self._FORWARD, "activation", module)
        output = self._writer.allocate(size_bytes, self._FORWARD, "activation", module)
        return Dropped(mask, output)

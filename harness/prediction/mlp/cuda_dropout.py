"""Dropout as CUDA does it: one kernel that draws a mask of a byte an element and multiplies.

Source: aten/src/ATen/native/cuda/Dropout.cu (``dropout_cuda``).
"""

from harness.prediction.mlp.activations import NODE
from harness.prediction.mlp.dropout import Dropout, Dropped
from harness.schema.events import Event


class CudaDropout(Dropout):
    """Writes the events of ``nn.Dropout`` in training; in inference it does nothing."""

    node = f"{NODE}NativeDropoutBackward0/NativeDropoutBackward0"
    _FORWARD = "aten::dropout/aten::native_dropout"

    def apply(
        self, size_bytes: int, module: str, categories: tuple[str, str], prefix: str
    ) -> Dropped:
        """Write mask and output."""
        of_mask, of_output = categories
        elements = size_bytes // self._element_bytes
        operator = f"{prefix}{self._FORWARD}/aten::empty"
        mask = self._writer.allocate(elements, operator, of_mask, module)
        return Dropped(mask, self._writer.allocate(size_bytes, operator, of_output, module))

    def until_saved(self, size_bytes: int, module: str, prefix: str) -> tuple[Event, Event]:
        """Write the same, all temporary: autograd saves the mask when the kernel is done."""
        mask, output = self.apply(size_bytes, module, ("temporary", "temporary"), prefix)
        return mask, output

    def backward(self, size_bytes: int, module: str) -> Event:
        """Write the gradient of the input."""
        operator = f"{self.node}/aten::native_dropout_backward"
        return self._writer.allocate(size_bytes, operator, "temporary", module)

"""Casts of autocast that differ on CUDA.

``cross_entropy`` asks for the log-softmax in its input's own type, which autocast heeds on CUDA:
it runs in the low type, keeps that, and only its result is cast to float32 for the loss.

Source: aten/src/ATen/autocast_mode.cpp (``fp32_set_opt_dtype``), LossNLL.cpp.
"""

from harness.prediction.mlp import loss
from harness.prediction.mlp.activations import CAST, NODE
from harness.prediction.mlp.autocast import AutocastLayers
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.loss import Loss, Root
from harness.schema.events import Event

_FULL_BYTES = DTYPE_BYTES["float32"]
_CAST_BACKWARD = f"{NODE}ToCopyBackward0/ToCopyBackward0{CAST}"


class CudaAutocastLayers(AutocastLayers):
    """The layers of ``MLP`` under autocast on CUDA."""

    _low: Event | None = None
    """The log-softmax of the pass that is written, in the low type."""

    def loss(self, rows: int, logits: Event) -> Loss:
        """Write the log-softmax, its cast to float32 and the loss; free the logits."""
        allocate, elements = self.writer.allocate, rows * self.all[-1].fan_out
        self._low = allocate(elements * self.element_bytes, loss.LOG_SOFTMAX, "activation")
        cast = allocate(elements * _FULL_BYTES, loss.NLL.rpartition("/")[0] + CAST, "activation")
        of_loss = allocate(_FULL_BYTES, loss.NLL)
        total_weight = allocate(_FULL_BYTES, loss.NLL, "activation")
        self.writer.free(logits)
        return Loss(cast, of_loss, total_weight)

    def loss_backward(self, rows: int, of_batch: Loss, parts: int) -> Root:
        """Write the loss's backward pass, its cast to the low type and the log-softmax's."""
        allocate, free = self.writer.allocate, self.writer.free
        size_bytes = rows * self.all[-1].fan_out * self.element_bytes
        cast = of_batch.log_softmax
        of_cast, until_end = loss.nll_backward(
            self.writer, of_batch.loss, cast.size_bytes, _FULL_BYTES, parts
        )
        free(cast)
        free(of_batch.total_weight)
        of_log = allocate(size_bytes, _CAST_BACKWARD)
        free(of_cast)
        gradient = allocate(size_bytes, loss.SOFTMAX_BACKWARD)
        free(of_log)
        free(self._low)
        return Root(gradient, until_end)

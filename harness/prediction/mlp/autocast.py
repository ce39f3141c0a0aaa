"""Writes the events of autocast, which casts float32 parameters for 16-bit matmuls.

In the autocast context, each parameter of a matmul is cast once, and autocast's cache keeps the
cast until the context ends. The examples are also cast, and the logits are cast back for the loss.
In the backward pass, each gradient has 16-bit elements first and is then cast to float32.

When the context ends, the cached casts are freed in an order that differs between runs, because
PyTorch keeps them in a hash table of addresses. The prediction frees the casts in the order of the
parameters. The order affects no metric, because nothing is allocated between the frees.

Source: aten/src/ATen/autocast_mode.cpp (``cached_cast``, ``clear_cache``).
"""

from harness.prediction.mlp.activations import CAST, NODE
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.layers import (
    ADDMM_BACKWARD,
    ADDMM_NODE,
    Blocks,
    Loss,
    MlpLayer,
    MlpLayers,
    Unpack,
)
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload

_FULL_BYTES = DTYPE_BYTES["float32"]
_LINEAR = "aten::linear"
_LOSS = "aten::cross_entropy_loss"
_CAST_BACKWARD = f"{NODE}ToCopyBackward0/ToCopyBackward0{CAST}"


class AutocastLayers(MlpLayers):
    """The layers of ``MLP`` under autocast."""

    def __init__(self, writer: TraceWriter, workload: Workload) -> None:
        super().__init__(writer, workload)
        self._saving = workload.mode == "train"
        self._cached: list[Event] = []
        """Cached casts, which are freed when the autocast context ends."""
        self._saved: dict[str, Event] = {}
        """Cast that autograd saves for each linear layer, by the name of the layer's module."""

    def linear(self, rows: int, layer: MlpLayer, category: str, prefix: str = "") -> Event:
        """Write the casts and the forward events of a linear layer; return its output.

        Autograd does not save the first layer's weight, because the examples need no gradient.
        """
        allocate, element = self.writer.allocate, self.element_bytes
        fan_in, fan_out, module = layer.fan_in, layer.fan_out, layer.module
        cast, matmul = f"{prefix}{_LINEAR}{CAST}", f"{prefix}{_LINEAR}/aten::linear/aten::addmm"
        first = layer is self.all[0]
        kept = "activation" if self._saving else "temporary"
        bias = allocate(fan_out * element, cast, "temporary", module)
        of_weight = "temporary" if first else kept
        weight = allocate(fan_in * fan_out * element, cast, of_weight, module)
        examples = allocate(rows * fan_in * element, cast, kept, module) if first else None
        output = allocate(rows * fan_out * element, matmul, category, module)
        if examples is not None and not self._saving:
            self.writer.free(examples)
        if self._saving:
            self._saved[module] = examples or weight
        self._cached += [weight, bias] if first or not self._saving else [bias]
        return output

    def leave(self) -> None:
        """Write that the cached casts are freed, except those that autograd has saved."""
        self.writer.free(*self._cached)
        self._cached = []

    def loss(self, rows: int, logits: Event) -> Loss:
        """Write the cast of the logits to float32 and the loss; then cast and logits are freed."""
        size_bytes = rows * self.all[-1].fan_out * _FULL_BYTES
        cast = self.writer.allocate(size_bytes, _LOSS + CAST)
        of_batch = self.cross_entropy(rows, _FULL_BYTES, f"{_LOSS}/")
        self.writer.free(cast, logits)
        return of_batch

    def loss_backward(self, rows: int, of_batch: Loss, parts: int) -> tuple[Event, Blocks]:
        """Write the backward pass of the loss and the cast of the logits' gradient."""
        full, until_end = super().loss_backward(rows, of_batch, parts)
        size_bytes = rows * self.all[-1].fan_out * self.element_bytes
        gradient = self.writer.allocate(size_bytes, _CAST_BACKWARD)
        self.writer.free(full)
        return gradient, until_end

    def linear_backward(
        self,
        rows: int,
        index: int,
        gradient: Event,
        after: Blocks = (),
        unpack: Unpack | None = None,
    ) -> Event:
        """Write the backward events of a linear layer and the casts of its gradients to float32."""
        assert unpack is None, "checkpointed segments are not predicted under autocast"
        allocate, layer = self.writer.allocate, self.all[index]
        module, operator = layer.module, f"{ADDMM_BACKWARD}/aten::mm"
        result = self.input_gradient(rows, layer, operator) if index else gradient
        weight_bytes = layer.fan_in * layer.fan_out * self.element_bytes
        weight = allocate(weight_bytes, operator, "temporary", module)
        sums = f"{ADDMM_NODE}aten::sum"
        bias = allocate(layer.fan_out * self.element_bytes, sums)
        self.writer.free(gradient, *after, self._saved[module])
        self._to_full(weight, 2 * index, module)
        self._to_full(bias, 2 * index + 1, module)
        return result

    def _to_full(self, low: Event, place: int, module: str) -> None:
        """Write a gradient's cast to float32; the cast is kept or added to a previous gradient."""
        size_bytes = low.size_bytes // self.element_bytes * _FULL_BYTES
        full = self.gradient(size_bytes, place, _CAST_BACKWARD, module)
        self.writer.free(low, full)

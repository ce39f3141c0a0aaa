"""The casts of autocast in the network by hand: products in the low type, sums in float32.

A product casts its weight and its input. Its sum with the float32 bias is promoted, so every
activation runs in float32, and what a hidden layer puts out is cast again by the next product,
which keeps the cast: the output itself is kept by its activation or by nobody.

Source: aten/src/ATen/autocast_mode.h (``mm`` is cast, ``add`` is not listed and promotes).
"""

from harness.prediction.mlp import loss
from harness.prediction.mlp.activations import CAST, NODE
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.layers import MM_BACKWARD, Blocks, Layer, Layers, Unpack
from harness.prediction.mlp.loss import Loss
from harness.prediction.mlp.network import Passes
from harness.prediction.mlp.trace_writer import Tape
from harness.schema.events import Event
from harness.schema.workload import Workload

_MATMUL = "aten::matmul"
_MM = f"{_MATMUL}/{_MATMUL}/aten::mm"
_CAST_BACKWARD = f"{NODE}ToCopyBackward0/ToCopyBackward0{CAST}"
_ADD_BACKWARD = f"{NODE}AddBackward0"


class AutocastByHandLayers(Layers):
    """The layers of ``MLPScratch`` under autocast."""

    def __init__(self, tape: Tape, workload: Workload, kernels: Kernels) -> None:
        super().__init__(tape, workload, kernels)
        assert workload.autocast is not None, "made for autocast"
        self._low = DTYPE_BYTES[workload.autocast]
        self.element_bytes = DTYPE_BYTES[workload.dtype]
        self._saving = workload.mode == "train"
        self._cached: list[Event] = []
        self._saved: list[Blocks] = []
        """The casts that each product's backward node holds, first layer first."""

    def linear(self, rows: int, layer: Layer, category: str, prefix: str = "") -> Event:
        """Write a product's casts, the product, and its sum with the bias; return the sum."""
        take, give = self.tape.take, self.tape.give
        first = layer is self.all[0]
        kept = "activation" if self._saving else "temporary"
        cast = f"{prefix}{_MATMUL}{CAST}"
        weight_bytes = layer.fan_in * layer.fan_out * self._low
        weight = take(weight_bytes, cast, "temporary" if first else kept)
        given = take(rows * layer.fan_in * self._low, cast, kept)
        product = take(rows * layer.fan_out * self._low, prefix + _MM)
        self.kernels.product(rows, layer.fan_in, layer.fan_out, prefix + _MM, layout="NN")
        if not self._saving:
            give(given)
        size_bytes = rows * layer.fan_out * self.element_bytes
        full = self.promoted(size_bytes, prefix)
        output = take(size_bytes, f"{prefix}aten::add", category)
        give(full)
        give(product)
        if first:
            self._saved = []
        self._saved.append((given,) if first else (weight, given))
        if first or not self._saving:
            self._cached.append(weight)
        return output

    def promoted(self, size_bytes: int, prefix: str) -> Event | None:
        """Write the product's cast to float32 that the sum makes, where it makes one."""
        return self.tape.take(size_bytes, f"{prefix}aten::add{CAST}")

    def leave(self) -> None:
        """Write that the cached casts which nothing else holds are returned."""
        self.give(self._cached)
        self._cached = []

    def loss(self, rows: int, logits: Event) -> Loss:
        """Write the loss of ``logits``, which are float32 already; they go."""
        size_bytes = rows * self.all[-1].fan_out * self.element_bytes
        prefix = "aten::cross_entropy_loss/"
        found = loss.forward(self.tape, size_bytes, self.element_bytes, prefix)
        self.tape.give(logits)
        return found

    def linear_backward(
        self,
        rows: int,
        index: int,
        gradient: Event,
        after: Blocks = (),
        unpack: Unpack | None = None,
    ) -> Event:
        """Write the sum's backward, the product's, and the casts of its two gradients."""
        assert unpack is None, "checkpointed segments are not followed under autocast"
        take, give, layer = self.tape.take, self.tape.give, self.all[index]
        fan_in, fan_out, operator = layer.fan_in, layer.fan_out, f"{MM_BACKWARD}/aten::mm"
        low = take(rows * fan_out * self._low, _ADD_BACKWARD + CAST)
        bias_place = len(self.all) + index
        bias_bytes = fan_out * self.element_bytes
        bias = self.gradient(bias_bytes, bias_place, f"{_ADD_BACKWARD}/aten::sum", "")
        self.kernels.column_sums(rows, fan_out, self.element_bytes, f"{_ADD_BACKWARD}/aten::sum")
        self.give((gradient, *after, bias))
        weight = take(fan_in * fan_out * self._low, operator)
        self.kernels.product(fan_in, rows, fan_out, operator, layout="TN")
        result = low
        if index:
            result = take(rows * fan_in * self._low, operator)
            self.kernels.product(rows, fan_out, fan_in, operator, layout="NT")
        self.give((low, *self._saved[index]))
        if index:
            full = take(rows * fan_in * self.element_bytes, _CAST_BACKWARD)
            give(result)
            result = full
        weight_bytes = fan_in * fan_out * self.element_bytes
        self.give((weight, self.gradient(weight_bytes, index, _CAST_BACKWARD, "")))
        return result


class AutocastByHand(Passes):
    """Hidden layers whose outputs are kept by their activations or by nobody."""

    def __init__(self, layers: AutocastByHandLayers) -> None:
        self._layers = layers
        self._kept: list[Blocks] = []
        self._unkept: Event | None = None

    def forward(self, rows: int) -> None:
        """Write the hidden layers' forward events; an output that nobody keeps goes late."""
        self._kept, self._unkept = [], None
        for layer in self._layers.all[:-1]:
            before = self._unkept
            self._kept.append(self._hidden(rows, layer))
            self._layers.give((before,))

    def _hidden(self, rows: int, layer: Layer) -> Blocks:
        """Write one hidden layer; return what its activation keeps, note what it does not."""
        layers, activation = self._layers, self._layers.activation
        kept_by_it = activation.keeps == "output"
        linear_kept = activation.keeps in ("input", "operands") or (
            kept_by_it and not activation.taking
        )
        linear = layers.linear(rows, layer, "activation" if linear_kept else "temporary")
        category = "activation" if kept_by_it else "temporary"
        output, taken = layers.activate(rows, layer, linear, category, besides="activation")
        self._unkept = None if kept_by_it else output
        if kept_by_it:
            layers.give(taken)
            return (output,)
        return taken

    def before_loss(self) -> None:
        """Write that the last hidden output goes when the network's forward returns."""
        self._layers.give((self._unkept,))

    def backward(self, rows: int, gradient: Event) -> Event:
        """Write every layer's backward events, given the logits' gradient."""
        layers = self._layers
        gradient = layers.linear_backward(rows, len(self._kept), gradient)
        for index in range(len(self._kept) - 1, -1, -1):
            result = layers.activation_backward(rows, layers.all[index], gradient)
            if result is not gradient:
                layers.give((gradient, *self._kept[index]))
            gradient = layers.linear_backward(rows, index, result)
        return gradient

"""The events of single layers and of the loss, forward and backward.

``MLP`` runs ``nn.Linear``, one ``addmm`` a layer; ``MLPScratch`` runs a matmul and a sum.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from harness.prediction.mlp import activations
from harness.prediction.mlp.activations import CAST, MAXIMUM, NODE, Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.norms import norm_of
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload

_ADDMM = "aten::linear/aten::addmm"
_MM = "aten::matmul/aten::mm"
ADDMM_NODE = f"{NODE}AddmmBackward0/"
ADDMM_BACKWARD = f"{ADDMM_NODE}AddmmBackward0"
MM_BACKWARD = f"{NODE}MmBackward0/MmBackward0"
_BIAS_BACKWARD = f"{NODE}AddBackward0/aten::sum"
LOG_SOFTMAX = "aten::cross_entropy_loss/aten::log_softmax/aten::_log_softmax"
NLL = "aten::cross_entropy_loss/aten::nll_loss_nd/aten::nll_loss/aten::nll_loss_forward"
_ONES = "aten::ones_like/aten::empty_like/aten::empty_strided"
_DIV_BACKWARD = f"{NODE}DivBackward0/DivBackward0/aten::div"
_NLL_BACKWARD = f"{NODE}NllLossBackward0/NllLossBackward0/aten::nll_loss_backward"
SOFTMAX_BACKWARD = f"{NODE}LogSoftmaxBackward0/LogSoftmaxBackward0/aten::_log_softmax_backward_data"

Blocks = Sequence[Event | None]
Unpack = Callable[[str], Blocks]
"""Function that is called with the operator path of a backward node when the node unpacks its saved
tensors. It returns the blocks to free when the node has run."""


class Loss(NamedTuple):
    """Blocks that the loss of one (micro-)batch leaves for its backward pass."""

    log_softmax: Event
    loss: Event
    total_weight: Event


class MlpLayer(NamedTuple):
    """One linear layer: its shape, its module's name, and the modules up to the next layer."""

    fan_in: int
    fan_out: int
    module: str
    activation_module: str
    place: int
    """Position of its weight among the parameters of ``MLP``; its bias follows."""
    norm_module: str = ""
    dropout_module: str = ""


class MlpLayers:
    """Writes the events of one network's layers to a trace writer."""

    def __init__(self, writer: TraceWriter, workload: Workload) -> None:
        self.writer = writer
        self.from_scratch = workload.model == "mlp-scratch"
        self.activation = activations.activation_of(workload.model, workload.activation)
        self.element_bytes = DTYPE_BYTES[workload.autocast or workload.dtype]
        self.parameter_element_bytes = DTYPE_BYTES[workload.dtype]
        self.norm = norm_of(workload, writer)
        self.dropout = None
        if workload.dropout:
            self.dropout = Dropout(writer, DTYPE_BYTES[workload.dtype])
        sizes = (workload.in_features, *workload.widths, workload.classes)
        self.all = [self._layer(index, *shape) for index, shape in enumerate(pairwise(sizes))]
        self.gradients: list[Event | None] = [None] * len(self.parameter_sizes)
        """Held gradients, in the order of ``parameter_sizes``."""

    def _layer(self, index: int, fan_in: int, fan_out: int) -> MlpLayer:
        """Return a layer with the names of its modules and the place of its parameters."""
        if self.from_scratch:
            return MlpLayer(fan_in, fan_out, "", "", 2 * index)
        normed = self.norm is not None
        first = (2 + normed + (self.dropout is not None)) * index
        return MlpLayer(
            fan_in=fan_in,
            fan_out=fan_out,
            module=str(first),
            activation_module=str(first + 1 + normed),
            place=(4 if normed else 2) * index,
            norm_module=str(first + 1),
            dropout_module=str(first + 2 + normed),
        )

    @property
    def parameter_sizes(self) -> list[int]:
        """Bytes of the parameters in the order of ``model.parameters()``.

        ``MLP`` has weight and bias of each layer, then the parameters of its normalization.
        ``MLPScratch`` has all weights, then all biases.
        """
        element_bytes = self.parameter_element_bytes
        weights = [layer.fan_in * layer.fan_out * element_bytes for layer in self.all]
        biases = [layer.fan_out * element_bytes for layer in self.all]
        if self.from_scratch:
            return weights + biases
        norms = 0 if self.norm is None else 2
        pairs = [
            [weight, *[bias] * (1 + norms)] for weight, bias in zip(weights, biases, strict=True)
        ]
        return [size for sizes in pairs for size in sizes][: len(self.all) * (2 + norms) - norms]

    def build(self) -> None:
        """Write the parameters' blocks in the order of their creation."""
        bias = "aten::zeros/aten::empty" if self.from_scratch else "aten::empty"
        for layer in self.all:
            weight_bytes = layer.fan_in * layer.fan_out * self.parameter_element_bytes
            self.writer.allocate(weight_bytes, "aten::empty", "parameter")
            self.writer.allocate(layer.fan_out * self.parameter_element_bytes, bias, "parameter")
            if self.norm is not None and layer is not self.all[-1]:
                self.norm.build(layer.fan_out)

    def zero_grad(self) -> None:
        """Write that the held gradients are freed, in the order of the parameters."""
        self.writer.free(*self.gradients)
        self.gradients = [None] * len(self.gradients)

    def linear(self, rows: int, layer: MlpLayer, category: str, prefix: str = "") -> Event:
        """Write a linear layer's forward events; return its output."""
        size = rows * layer.fan_out * self.element_bytes
        allocate = self.writer.allocate
        if not self.from_scratch:
            return allocate(size, prefix + _ADDMM, category, layer.module)
        matmul = allocate(size, prefix + _MM)
        output = allocate(size, f"{prefix}aten::add", category)
        self.writer.free(matmul)
        return output

    def activate(
        self,
        rows: int,
        layer: MlpLayer,
        given: Event,
        category: str,
        prefix: str = "",
        *,
        others: str | None = None,
    ) -> tuple[Event, tuple[Event, ...]]:
        """Write an activation's forward events; ``given`` is its input, and its output if in place.

        Return its output, of ``category``, and the blocks alive next to it, in the order of their
        frees. Additional blocks are of category ``others`` (by default ``category``).
        """
        if not self.activation.allocates:
            return given, ()
        size, module = rows * layer.fan_out * self.element_bytes, layer.activation_module
        taken: tuple[Event, ...] = (given,)
        if self.activation is MAXIMUM:
            taken = (self.zeros(rows, layer, prefix, others or category), given)
        operator = prefix + self.activation.forward
        return self.writer.allocate(size, operator, category, module), taken

    def zeros(self, rows: int, layer: MlpLayer, prefix: str, category: str = "temporary") -> Event:
        """Write only the zeros that the maximum compares with."""
        size, module = rows * layer.fan_out * self.element_bytes, layer.activation_module
        return self.writer.allocate(size, prefix + activations.ZEROS, category, module)

    def activation_backward(self, rows: int, layer: MlpLayer, gradient: Event) -> Event:
        """Write the events from the output's gradient to the input's gradient, and return it."""
        size, module = rows * layer.fan_out * self.element_bytes, layer.activation_module
        if self.activation is MAXIMUM:
            return activations.maximum_backward(self.writer, size, self.element_bytes, module)
        if self.activation.keeps == "nothing":
            return gradient
        return self.writer.allocate(size, self.activation.backward, "temporary", module)

    def linear_backward(
        self,
        rows: int,
        index: int,
        gradient: Event,
        after: Blocks = (),
        unpack: Unpack | None = None,
    ) -> Event:
        """Write a linear layer's backward events; return its input's gradient.

        ``after`` are blocks that are freed with the node's saved tensors, when the node has run.
        The batch needs no gradient, so the first layer returns ``gradient``.
        """
        if self.from_scratch:
            return self._from_scratch_backward(rows, index, gradient, after, unpack)
        layer, matmul = self.all[index], f"{ADDMM_BACKWARD}/aten::mm"
        inside = unpack(ADDMM_BACKWARD) if unpack else ()
        result = self.input_gradient(rows, layer, matmul) if index else gradient
        weight = self._weight_gradient(layer, layer.place, matmul)
        self.writer.free(*inside)
        bias = self._bias_gradient(layer, layer.place + 1, f"{ADDMM_NODE}aten::sum")
        self.writer.free(gradient, *after, bias, weight)
        return result

    def _from_scratch_backward(
        self, rows: int, index: int, gradient: Event, after: Blocks, unpack: Unpack | None
    ) -> Event:
        """Write the backward pass of the sum, which saves nothing, and then of the matmul."""
        layer, matmul = self.all[index], f"{MM_BACKWARD}/aten::mm"
        self.writer.free(self._bias_gradient(layer, len(self.all) + index, _BIAS_BACKWARD))
        inside = unpack(MM_BACKWARD) if unpack else ()
        weight = self._weight_gradient(layer, index, matmul)
        result = self.input_gradient(rows, layer, matmul) if index else gradient
        self.writer.free(*inside, gradient, *after, weight)
        return result

    def loss(self, rows: int, logits: Event) -> Loss:
        """Write the loss of ``logits``, which are then freed."""
        of_batch = self.cross_entropy(rows, self.element_bytes)
        self.writer.free(logits)
        return of_batch

    def cross_entropy(self, rows: int, element_bytes: int, prefix: str = "") -> Loss:
        """Write the cross-entropy of logits of ``element_bytes`` an element."""
        allocate, size_bytes = self.writer.allocate, rows * self.all[-1].fan_out * element_bytes
        log_softmax = allocate(size_bytes, prefix + LOG_SOFTMAX, "activation")
        loss = allocate(element_bytes, prefix + NLL)
        return Loss(log_softmax, loss, allocate(element_bytes, prefix + NLL, "activation"))

    def loss_backward(self, rows: int, of_batch: Loss, parts: int) -> tuple[Event, Blocks]:
        """Write the loss's backward pass; return the logits' gradient and the blocks to free."""
        del rows  # which its casts under autocast need
        size_bytes = of_batch.log_softmax.size_bytes
        of_log, until_end = self.nll_backward(of_batch, parts)
        self.writer.free(of_batch.total_weight)
        of_logits = self.writer.allocate(size_bytes, SOFTMAX_BACKWARD)
        self.writer.free(of_log, of_batch.log_softmax)
        return of_logits, until_end

    def nll_backward(self, of_batch: Loss, parts: int) -> tuple[Event, Blocks]:
        """Write the backward pass to the log-softmax; return its gradient and the kept blocks.

        The gradient of the loss, ones, lives until the pass ends, and so does the loss, which the
        step holds. With several ``parts`` the loss is first divided by their number, a wrapped
        number that is kept for the backward pass.
        """
        allocate, writer = self.writer.allocate, self.writer
        loss = of_batch.loss
        element_bytes, size_bytes = loss.size_bytes, of_batch.log_softmax.size_bytes
        held: Blocks = (loss,)
        number = seed = None
        if parts > 1:
            number = writer.allocate(8, "")
            cast = writer.allocate(element_bytes, f"aten::div{CAST}")
            held = (allocate(element_bytes, "aten::div"), loss)
            writer.free(cast)
        ones = allocate(element_bytes, _ONES)
        if parts > 1:
            cast = writer.allocate(element_bytes, _DIV_BACKWARD + CAST)
            seed = allocate(element_bytes, _DIV_BACKWARD)
            writer.free(cast, number)
        of_log = allocate(size_bytes, _NLL_BACKWARD)
        writer.free(seed)
        return of_log, (ones, *held)

    def leave(self) -> None:
        """Write nothing, because nothing is freed when the forward pass ends."""

    def input_gradient(self, rows: int, layer: MlpLayer, operator: str) -> Event:
        """Write the matmul that computes the gradient of a linear layer's input."""
        size = rows * layer.fan_in * self.element_bytes
        return self.writer.allocate(size, operator, "temporary", layer.module)

    def _weight_gradient(self, layer: MlpLayer, place: int, operator: str) -> Event | None:
        """Write a weight's gradient; return its block if it is only added to the held gradient."""
        size = layer.fan_in * layer.fan_out * self.element_bytes
        return self.gradient(size, place, operator, layer.module)

    def _bias_gradient(self, layer: MlpLayer, place: int, operator: str) -> Event | None:
        return self.gradient(layer.fan_out * self.element_bytes, place, operator, "")

    def gradient(self, size: int, place: int, operator: str, module: str) -> Event | None:
        """Accept a gradient; the first gradient stays, and later gradients are added to it."""
        if self.gradients[place] is None:
            self.gradients[place] = self.writer.allocate(size, operator, "gradient", module)
            return None
        return self.writer.allocate(size, operator, "temporary", module)

"""Writes the forward and backward events of single layers and of the loss.

``MLP`` runs one ``addmm`` per linear layer; ``MLPScratch`` runs a matmul and an addition.
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
"""Function that is called with a backward node's operator path when the node unpacks saved tensors.
The function returns the blocks to free after the node has run."""


class Loss(NamedTuple):
    """Blocks of the loss of one (micro-)batch that exist at the start of its backward pass."""

    log_softmax: Event
    loss: Event
    total_weight: Event


class MlpLayer(NamedTuple):
    """One linear layer: its shape, and the names of its module and of the modules after it."""

    fan_in: int
    fan_out: int
    module: str
    activation_module: str
    place: int
    """Index of the layer's weight among the parameters of ``MLP``; the bias is next."""
    norm_module: str = ""
    dropout_module: str = ""


class MlpLayers:
    """Writes the events of a network's layers."""

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
        """Existing gradients, in the order of ``parameter_sizes``."""

    def _layer(self, index: int, fan_in: int, fan_out: int) -> MlpLayer:
        """Return a layer with the names of its modules and the index of its weight."""
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
        """Bytes of each parameter, in the order of ``model.parameters()``.

        For each layer, ``MLP`` has weight and bias and then the parameters of the normalization.
        ``MLPScratch`` has all weights and then all biases.
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
        """Write the allocations of the parameters, in the order of their creation."""
        bias = "aten::zeros/aten::empty" if self.from_scratch else "aten::empty"
        for layer in self.all:
            weight_bytes = layer.fan_in * layer.fan_out * self.parameter_element_bytes
            self.writer.allocate(weight_bytes, "aten::empty", "parameter")
            self.writer.allocate(layer.fan_out * self.parameter_element_bytes, bias, "parameter")
            if self.norm is not None and layer is not self.all[-1]:
                self.norm.build(layer.fan_out)

    def zero_grad(self) -> None:
        """Write that the gradients are freed, in the order of the parameters."""
        self.writer.free(*self.gradients)
        self.gradients = [None] * len(self.gradients)

    def linear(self, rows: int, layer: MlpLayer, category: str, prefix: str = "") -> Event:
        """Write the forward events of a linear layer; return its output."""
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
        """Write the forward events of an activation with the input ``given``.

        Return the output and the other live blocks, in the order in which they are freed. The
        output has ``category``; an additional block has category ``others`` (default:
        ``category``).
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
        """Write the allocation of the zeros, which are an operand of the maximum."""
        size, module = rows * layer.fan_out * self.element_bytes, layer.activation_module
        return self.writer.allocate(size, prefix + activations.ZEROS, category, module)

    def activation_backward(self, rows: int, layer: MlpLayer, gradient: Event) -> Event:
        """Write the backward events of an activation; return the gradient of its input."""
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
        """Write the backward events of a linear layer; return the gradient of its input.

        ``after`` are blocks that are freed together with the node's saved tensors. For the first
        layer, the result is ``gradient``, because the batch needs no gradient.
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
        """Write the backward pass of the bias addition, and then of the matmul."""
        layer, matmul = self.all[index], f"{MM_BACKWARD}/aten::mm"
        self.writer.free(self._bias_gradient(layer, len(self.all) + index, _BIAS_BACKWARD))
        inside = unpack(MM_BACKWARD) if unpack else ()
        weight = self._weight_gradient(layer, index, matmul)
        result = self.input_gradient(rows, layer, matmul) if index else gradient
        self.writer.free(*inside, gradient, *after, weight)
        return result

    def loss(self, rows: int, logits: Event) -> Loss:
        """Write the loss; then write that ``logits`` is freed."""
        of_batch = self.cross_entropy(rows, self.element_bytes)
        self.writer.free(logits)
        return of_batch

    def cross_entropy(self, rows: int, element_bytes: int, prefix: str = "") -> Loss:
        """Write the cross-entropy of logits with ``element_bytes`` per element."""
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
        """Write the backward pass of the NLL loss; return its input's gradient and the kept blocks.

        The loss and its gradient (ones) are alive until the backward pass ends. With several
        ``parts``, the loss is divided by their number, which is kept for the backward pass.
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
        """Write nothing; only autocast frees blocks when the forward pass ends."""

    def input_gradient(self, rows: int, layer: MlpLayer, operator: str) -> Event:
        """Write the gradient of a linear layer's input; return the gradient's block."""
        size = rows * layer.fan_in * self.element_bytes
        return self.writer.allocate(size, operator, "temporary", layer.module)

    def _weight_gradient(self, layer: MlpLayer, place: int, operator: str) -> Event | None:
        """Write a weight's gradient; return the block if it is added to a previous gradient."""
        size = layer.fan_in * layer.fan_out * self.element_bytes
        return self.gradient(size, place, operator, layer.module)

    def _bias_gradient(self, layer: MlpLayer, place: int, operator: str) -> Event | None:
        return self.gradient(layer.fan_out * self.element_bytes, place, operator, "")

    def gradient(self, size: int, place: int, operator: str, module: str) -> Event | None:
        """Write a gradient; return the block if it is added to a previous gradient, else None."""
        if self.gradients[place] is None:
            self.gradients[place] = self.writer.allocate(size, operator, "gradient", module)
            return None
        return self.writer.allocate(size, operator, "temporary", module)

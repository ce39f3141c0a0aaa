"""Forward and backward pass of the two networks, event by event.

``MLP`` runs ``nn.Linear``, one ``addmm`` a layer; ``MLPScratch`` runs a product and a sum. What
a node of the backward pass saved is returned when that node has run, and a gradient when
the node that consumed it has run (torch/csrc/autograd/engine.cpp, ``evaluate_function``).
"""

import itertools
from typing import NamedTuple

from harness.events import Event
from harness.prediction import activations
from harness.prediction.activations import CAST, Kept
from harness.prediction.formula import DTYPE_BYTES
from harness.prediction.matmul import Scratch
from harness.prediction.tape import Tape
from harness.workload import Workload

_NODE = "autograd::engine::evaluate_function: "
_ADDMM = "aten::linear/aten::addmm"
_MM = "aten::matmul/aten::mm"
_LOG_SOFTMAX = "aten::cross_entropy_loss/aten::log_softmax/aten::_log_softmax"
_NLL = "aten::cross_entropy_loss/aten::nll_loss_nd/aten::nll_loss/aten::nll_loss_forward"
_ONES = "aten::ones_like/aten::empty_like/aten::empty_strided"
_DIV_BACKWARD = f"{_NODE}DivBackward0/DivBackward0/aten::div"
_NLL_BACKWARD = f"{_NODE}NllLossBackward0/NllLossBackward0/aten::nll_loss_backward"
_SOFTMAX_BACKWARD = (
    f"{_NODE}LogSoftmaxBackward0/LogSoftmaxBackward0/aten::_log_softmax_backward_data"
)


class Layer(NamedTuple):
    """One linear map: its shape, and the names of its module and of its activation's."""

    fan_in: int
    fan_out: int
    module: str
    activation_module: str


class Loss(NamedTuple):
    """What the loss of one (micro-)batch leaves for its backward pass."""

    log_softmax: Event
    loss: Event
    total_weight: Event


class Network:
    """Writes the events of one network's passes on a tape."""

    def __init__(self, tape: Tape, workload: Workload, scratch: Scratch | None) -> None:
        self._tape = tape
        self._scratch = scratch
        self._by_hand = workload.model == "mlp-scratch"
        self._activation = activations.activation_of(workload.model, workload.activation)
        self.element_bytes = DTYPE_BYTES[workload.dtype]
        self._training = workload.mode == "train"
        self._classes = workload.classes
        sizes = (workload.in_features, *workload.widths, workload.classes)
        self._layers = [
            Layer(fan_in, fan_out, *(("", "") if self._by_hand else (str(2 * i), str(2 * i + 1))))
            for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes))
        ]
        self.gradients: list[Event | None] = [None] * (2 * len(self._layers))
        """Gradients held, in the order of ``parameter_sizes``."""

    @property
    def parameter_sizes(self) -> list[int]:
        """Bytes of the parameters in the order of ``model.parameters()``.

        ``MLP``: weight and bias of each layer. ``MLPScratch``: all weights, then all biases.
        """
        weights = [layer.fan_in * layer.fan_out * self.element_bytes for layer in self._layers]
        biases = [layer.fan_out * self.element_bytes for layer in self._layers]
        if self._by_hand:
            return weights + biases
        return [size for pair in zip(weights, biases, strict=True) for size in pair]

    def build(self) -> None:
        """Write the parameters' blocks in the order of their creation."""
        bias = "aten::zeros/aten::empty" if self._by_hand else "aten::empty"
        for layer in self._layers:
            self._tape.take(
                layer.fan_in * layer.fan_out * self.element_bytes, "aten::empty", "parameter"
            )
            self._tape.take(layer.fan_out * self.element_bytes, bias, "parameter")

    def zero_grad(self) -> None:
        """Write that the gradients held are returned, in the order of the parameters."""
        for index, gradient in enumerate(self.gradients):
            if gradient is not None:
                self._tape.give(gradient)
                self.gradients[index] = None

    def predict(self, rows: int) -> None:
        """Write a forward pass without autograd; a layer's input goes when it is replaced."""
        give = self._tape.give
        hidden: Event | None = None
        for layer in self._layers[:-1]:
            linear = self._linear(rows, layer, "temporary")
            if hidden is not None and not self._by_hand:
                give(hidden)
            applied = self._activate(rows, layer, linear, saving=False)
            for block in applied.taken:
                give(block)
            if hidden is not None and self._by_hand:
                give(hidden)
            hidden = applied.output
        logits = self._linear(rows, self._layers[-1], "temporary")
        if hidden is not None:
            give(hidden)
        give(logits)

    def forward(self, rows: int) -> tuple[list[Kept], Event]:
        """Write a forward pass under autograd; return what it keeps, and the logits."""
        held = [self._hidden(rows, layer) for layer in self._layers[:-1]]
        return held, self._linear(rows, self._layers[-1], "temporary")

    def _hidden(self, rows: int, layer: Layer) -> Kept:
        saved_linear = not (self._activation.taking and self._activation.keeps == "output")
        linear = self._linear(rows, layer, "activation" if saved_linear else "temporary")
        applied = self._activate(rows, layer, linear, saving=True)
        if not saved_linear:
            self._tape.give(linear)
        return activations.kept(self._activation, applied)

    def _activate(
        self, rows: int, layer: Layer, linear: Event, *, saving: bool
    ) -> activations.Applied:
        size = rows * layer.fan_out * self.element_bytes
        module = layer.activation_module
        return activations.apply(self._tape, self._activation, linear, size, module, saving=saving)

    def _linear(self, rows: int, layer: Layer, category: str) -> Event:
        """Write a linear map's forward events; return its output.

        ``nn.Linear`` keeps its weight as (out, in): its rows are what the product runs along.
        """
        fan_in, fan_out = layer.fan_in, layer.fan_out
        size = rows * fan_out * self.element_bytes
        if not self._by_hand:
            output = self._tape.take(size, _ADDMM, category, layer.module)
            self._below(rows, fan_in, fan_out, _ADDMM, layer.module, dots=True)
            return output
        product = self._tape.take(size, _MM)
        self._below(rows, fan_in, fan_out, _MM, dots=fan_in == fan_out == 1)
        output = self._tape.take(size, "aten::add", category)
        self._tape.give(product)
        return output

    def _below(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, dots: bool
    ) -> None:
        """Write the scratch that the matrix library takes for one product, if any."""
        if self._scratch is not None:
            size = self._scratch(m, k, n, dots)
            if size:
                self._tape.give(self._tape.take(size, operator, "temporary", module))

    def loss(self, rows: int, logits: Event) -> Loss:
        """Write the cross-entropy's forward events; the logits go, their log-softmax stays."""
        take = self._tape.take
        log_softmax = take(rows * self._classes * self.element_bytes, _LOG_SOFTMAX, "activation")
        loss = take(self.element_bytes, _NLL)
        total_weight = take(self.element_bytes, _NLL, "activation")
        self._tape.give(logits)
        return Loss(log_softmax, loss, total_weight)

    def backward(self, rows: int, held: list[Kept], loss: Loss, parts: int) -> None:
        """Write a backward pass, from the loss to the first layer's gradients."""
        take, give = self._tape.take, self._tape.give
        divided = self._divide() if parts > 1 else ()
        ones = take(self.element_bytes, _ONES)
        seed = self._divide_backward(divided[0]) if divided else None
        gradient = self._loss_backward(rows, loss, seed)
        last = len(self._layers) - 1
        gradient = self._linear_backward(rows, last, gradient, held[-1].by_next)
        for index in range(last - 1, -1, -1):
            gradient = self._activation_backward(rows, index, held[index], gradient)
            saved = held[index - 1].by_next if index else ()
            gradient = self._linear_backward(rows, index, gradient, saved)
        give(ones)
        for block in divided[1:]:
            give(block)
        give(loss.loss)

    def _divide(self) -> tuple[Event, Event]:
        """Write ``loss / parts``; return the wrapped number, held for backward, and the quotient.

        ``parts`` is a Python int: an int64 that is cast to any type of loss.
        """
        number = self._tape.take(8, "")
        cast = self._tape.take(self.element_bytes, f"aten::div{CAST}")
        quotient = self._tape.take(self.element_bytes, "aten::div")
        self._tape.give(cast)
        return number, quotient

    def _divide_backward(self, number: Event) -> Event:
        cast = self._tape.take(self.element_bytes, _DIV_BACKWARD + CAST)
        gradient = self._tape.take(self.element_bytes, _DIV_BACKWARD)
        self._tape.give(cast)
        self._tape.give(number)
        return gradient

    def _loss_backward(self, rows: int, loss: Loss, seed: Event | None) -> Event:
        size = rows * self._classes * self.element_bytes
        of_log = self._tape.take(size, _NLL_BACKWARD)
        if seed is not None:
            self._tape.give(seed)
        self._tape.give(loss.total_weight)
        of_logits = self._tape.take(size, _SOFTMAX_BACKWARD)
        self._tape.give(of_log)
        self._tape.give(loss.log_softmax)
        return of_logits

    def _activation_backward(self, rows: int, index: int, held: Kept, gradient: Event) -> Event:
        layer = self._layers[index]
        size = rows * layer.fan_out * self.element_bytes
        module = layer.activation_module
        result = activations.backward(
            self._tape, self._activation, gradient, size, self.element_bytes, module
        )
        if result is not gradient:
            self._tape.give(gradient)
            for block in held.by_activation:
                self._tape.give(block)
        return result

    def _linear_backward(
        self, rows: int, index: int, gradient: Event, saved: tuple[Event, ...]
    ) -> Event:
        """Write a linear map's backward events; return its input's gradient.

        ``saved`` goes with it. The batch itself needs no gradient: for the first layer
        ``gradient`` comes back.
        """
        if self._by_hand:
            return self._by_hand_backward(rows, index, gradient, saved)
        layer = self._layers[index]
        node = f"{_NODE}AddmmBackward0/"
        product = f"{node}AddmmBackward0/aten::mm"
        result = gradient
        if index:
            result = self._input_gradient(rows, layer, product)
        weight = self._weight_gradient(rows, layer, 2 * index, product)
        bias = self._bias_gradient(layer, 2 * index + 1, f"{node}aten::sum")
        for block in (gradient, *saved, bias, weight):
            if block is not None:
                self._tape.give(block)
        return result

    def _by_hand_backward(
        self, rows: int, index: int, gradient: Event, saved: tuple[Event, ...]
    ) -> Event:
        layer = self._layers[index]
        product = f"{_NODE}MmBackward0/MmBackward0/aten::mm"
        place = len(self._layers) + index
        bias = self._bias_gradient(layer, place, f"{_NODE}AddBackward0/aten::sum")
        if bias is not None:
            self._tape.give(bias)
        weight = self._weight_gradient(rows, layer, index, product)
        result = gradient
        if index:
            result = self._input_gradient(rows, layer, product)
        for block in (gradient, *saved, weight):
            if block is not None:
                self._tape.give(block)
        return result

    def _input_gradient(self, rows: int, layer: Layer, operator: str) -> Event:
        size = rows * layer.fan_in * self.element_bytes
        gradient = self._tape.take(size, operator, "temporary", layer.module)
        dots = self._by_hand or layer.fan_in == layer.fan_out == 1
        self._below(rows, layer.fan_out, layer.fan_in, operator, layer.module, dots=dots)
        return gradient

    def _weight_gradient(self, rows: int, layer: Layer, place: int, operator: str) -> Event | None:
        """Write a weight's gradient; return it where it is only added to the one held."""
        size = layer.fan_in * layer.fan_out * self.element_bytes
        gradient = self._gradient(size, place, operator, layer.module)
        m, n = (layer.fan_in, layer.fan_out) if self._by_hand else (layer.fan_out, layer.fan_in)
        self._below(m, rows, n, operator, layer.module, dots=False)
        return gradient

    def _bias_gradient(self, layer: Layer, place: int, operator: str) -> Event | None:
        return self._gradient(layer.fan_out * self.element_bytes, place, operator, "")

    def _gradient(self, size: int, place: int, operator: str, module: str) -> Event | None:
        """Take a gradient: the first stays as the parameter's, a later one is added to it."""
        if self.gradients[place] is None:
            self.gradients[place] = self._tape.take(size, operator, "gradient", module)
            return None
        return self._tape.take(size, operator, "temporary", module)

"""Networks with normalization, dropout or both between a linear layer and the next.

Every module of ``nn.Sequential`` is a node of its own: its input is freed when the module has
replaced it, unless autograd keeps it. A normalization holds its input and its statistics, an
activation what its derivative needs, dropout its mask, the next linear layer its input.
"""

from collections.abc import Mapping
from typing import NamedTuple

from harness.prediction.mlp.activations import Applied
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.layers import Blocks, Layer, Layers
from harness.prediction.mlp.network import Passes
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload

DROPOUT, ACTIVATION, NORM, NEXT = "dropout", "activation", "norm", "next"

Held = Mapping[str, Blocks]
"""Blocks of one hidden layer that autograd holds, by the node that lets them go."""


class _Categories(NamedTuple):
    """Of the outputs of a hidden layer's modules."""

    linear: str
    norm: str
    activation: str


class StackedLayers(Layers):
    """The layers of an ``MLP`` with normalization or dropout in its hidden layers."""

    def __init__(self, writer: TraceWriter, workload: Workload, kernels: Kernels) -> None:
        super().__init__(writer, workload, kernels)
        self._norm = kernels.norm(workload)
        self._dropout = kernels.dropout(workload)
        self.all = [self._named(layer, index) for index, layer in enumerate(self.all)]
        self.gradients = [None] * len(self.parameter_sizes)
        present = {
            DROPOUT: self._dropout is not None,
            ACTIVATION: self.activation.keeps != "nothing",
            NORM: self._norm is not None,
        }
        self.nodes = [kind for kind, there in present.items() if there]
        """Kinds of a hidden layer's nodes between the linear layers, last one first."""

    def _named(self, layer: Layer, index: int) -> Layer:
        """Return ``layer`` with the names of its modules and the place of its parameters."""
        normed = self._norm is not None
        first = (2 + normed + (self._dropout is not None)) * index
        return layer._replace(
            module=str(first),
            norm_module=str(first + 1),
            activation_module=str(first + 1 + normed),
            dropout_module=str(first + 2 + normed),
            place=(4 if normed else 2) * index,
        )

    @property
    def parameter_sizes(self) -> list[int]:
        """Bytes of the parameters: each linear layer's, then its normalization's."""
        sizes = []
        for layer in self.all:
            units = [layer.fan_in * layer.fan_out, layer.fan_out]
            if self._norm is not None and layer is not self.all[-1]:
                units += [layer.fan_out, layer.fan_out]
            sizes += [count * self.parameter_element_bytes for count in units]
        return sizes

    def build(self) -> None:
        """Write the parameters' and buffers' blocks in the order of their creation."""
        for layer in self.all:
            self.build_linear(layer)
            if self._norm is not None and layer is not self.all[-1]:
                self._norm.build(layer.fan_out)

    def activate(
        self,
        rows: int,
        layer: Layer,
        linear: Event,
        category: str,
        prefix: str = "",
        *,
        others: str | None = None,
    ) -> Applied:
        """Write what is between two linear layers if autograd holds nothing: no dropout either."""
        if self._norm is None:
            return super().activate(rows, layer, linear, category, prefix, others=others)
        categories = (category, "temporary")
        output, statistics = self._norm.forward(rows, layer.fan_out, layer.norm_module, categories)
        self.free((*statistics, linear))
        return super().activate(rows, layer, output, category, prefix, others=others)

    def held(self, rows: int, layer: Layer) -> Held:
        """Write a hidden layer under autograd, which holds what its derivatives need."""
        of = self._categories()
        given, by_norm = self._normalise(rows, layer, of)
        output, by_activation = self._activate(rows, layer, given, of)
        if self._dropout is None:
            by_next = () if self.activation.keeps == "output" else (output,)
            return {NORM: by_norm, ACTIVATION: by_activation, NEXT: by_next}
        size = rows * layer.fan_out * self.element_bytes
        mask, result = self._dropout.apply(size, layer.dropout_module)
        if output not in by_activation:
            self.writer.free(output)
        return {NORM: by_norm, ACTIVATION: by_activation, DROPOUT: (mask,), NEXT: (result,)}

    def _categories(self) -> _Categories:
        """Return "activation" for each output that a node or the next layer keeps."""
        keeps = self.activation.keeps
        by_activation = keeps == "output" or self._dropout is None
        before = keeps == "input" or (not self.activation.allocates and by_activation)
        kept = (self._norm is not None or before, before, by_activation)
        return _Categories(*("activation" if each else "temporary" for each in kept))

    def _normalise(self, rows: int, layer: Layer, of: _Categories) -> tuple[Event, Blocks]:
        """Write a linear layer and its normalization; return output and what the latter keeps."""
        linear = self.linear(rows, layer, of.linear)
        if self._norm is None:
            return linear, ()
        categories = (of.norm, "activation")
        output, statistics = self._norm.forward(rows, layer.fan_out, layer.norm_module, categories)
        return output, (linear, *statistics)

    def _activate(
        self, rows: int, layer: Layer, given: Event, of: _Categories
    ) -> tuple[Event, Blocks]:
        """Write the activation on ``given``; return the output and what the activation holds."""
        output, taken = super().activate(rows, layer, given, of.activation)
        match self.activation.keeps:
            case "output":
                self.free(taken)
                return output, (output,)
            case "input":
                return output, (given,)
        return output, ()

    def node_backward(
        self, kind: str, rows: int, layer: Layer, gradient: Event
    ) -> tuple[Event, Blocks]:
        """Write a node's backward events.

        Return its input's gradient and the gradients that are only added to those held.
        """
        if kind == ACTIVATION:
            return self.activation_backward(rows, layer, gradient), ()
        if kind == DROPOUT:
            assert self._dropout is not None, "its node is there"
            size = rows * layer.fan_out * self.element_bytes
            return self._dropout.backward(size, layer.dropout_module), ()
        assert self._norm is not None, "its node is there"
        module, added = layer.norm_module, []

        def allocate(number: int, size_bytes: int, operator: str) -> None:
            added.append(self.gradient(size_bytes, layer.place + 2 + number, operator, module))

        return self._norm.backward(rows, layer.fan_out, module, allocate), added


def plain_layers(writer: TraceWriter, workload: Workload, kernels: Kernels) -> Layers:
    """Return the layers of ``workload`` without autocast."""
    has_more = workload.norm != "none" or workload.dropout > 0
    return (StackedLayers if has_more else Layers)(writer, workload, kernels)


class Stacked(Passes):
    """Hidden layers of which autograd keeps everything that their derivatives need."""

    def __init__(self, layers: StackedLayers) -> None:
        self._layers = layers
        self._held: list[Held] = []

    def forward(self, rows: int) -> None:
        """Write the hidden layers' forward events and remember what is held."""
        layers = self._layers
        self._held = [layers.held(rows, layer) for layer in layers.all[:-1]]

    def backward(self, rows: int, gradient: Event) -> Event:
        """Write every node's backward events, given the logits' gradient."""
        layers, held = self._layers, self._held
        gradient = layers.linear_backward(rows, len(held), gradient, held[-1][NEXT])
        for index in range(len(held) - 1, -1, -1):
            for kind in layers.nodes:
                result, added = layers.node_backward(kind, rows, layers.all[index], gradient)
                layers.free((gradient, *held[index][kind], *added))
                gradient = result
            after = held[index - 1][NEXT] if index else ()
            gradient = layers.linear_backward(rows, index, gradient, after)
        return gradient

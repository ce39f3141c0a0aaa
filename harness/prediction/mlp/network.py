"""Forward and backward pass of a whole network, event by event.

What a node of the backward pass saved is freed when that node has run, and a gradient
when the node that consumed it has run (torch/csrc/autograd/engine.cpp, ``evaluate_function``).
"""

from collections.abc import Mapping
from typing import Protocol

from harness.prediction.mlp.layers import Blocks, Layer, Layers
from harness.schema.events import Event

DROPOUT, ACTIVATION, NORM, NEXT = "dropout", "activation", "norm", "next"


class Passes(Protocol):
    """Passes of the hidden layers in training: all kept, or in checkpointed segments."""

    def forward(self, rows: int) -> None:
        """Write the hidden layers' forward events."""

    def backward(self, rows: int, gradient: Event) -> Event:
        """Write every linear layer's backward events, given the logits' gradient."""


def predict(layers: Layers, rows: int) -> None:
    """Write a forward pass without autograd; a layer's input is freed when it is replaced.

    ``nn.Sequential`` replaces it after each module, the from-scratch model after each layer.
    """
    free = layers.writer.free
    hidden: Event | None = None
    for layer in layers.all[:-1]:
        linear = layers.linear(rows, layer, "temporary")
        if not layers.from_scratch:
            free(hidden)
        applied = layers.between(rows, layer, linear)
        layers.free(applied.taken)
        if layers.from_scratch:
            free(hidden)
        hidden = applied.output
    logits = layers.linear(rows, layers.all[-1], "temporary")
    free(hidden)
    free(logits)
    layers.leave()


def train(layers: Layers, passes: Passes, rows: int, parts: int) -> None:
    """Write the forward and backward pass of one (micro-)batch of ``rows``, one of ``parts``."""
    writer = layers.writer
    writer.begin("forward")
    passes.forward(rows)
    logits = layers.linear(rows, layers.all[-1], "temporary")
    of_batch = layers.loss(rows, logits)
    layers.leave()
    writer.begin("backward")
    root = layers.loss_backward(rows, of_batch, parts)
    passes.backward(rows, root.gradient)
    layers.free(root.until_end)


Held = Mapping[str, Blocks]
"""Blocks of one hidden layer that autograd holds, by the node that lets them go."""


class Plain(Passes):
    """Hidden layers of which autograd keeps everything that their derivatives need.

    Every module of ``nn.Sequential`` is a node of its own: its input is freed when the module has
    replaced it, unless autograd keeps it. A normalization holds its input and its statistics, an
    activation what its derivative needs, dropout its mask, the next linear layer its input.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._held: list[Held] = []
        present = {
            DROPOUT: layers.dropout is not None,
            ACTIVATION: layers.activation.keeps != "nothing",
            NORM: layers.norm is not None,
        }
        self._nodes = [kind for kind, there in present.items() if there]
        """Kinds of a hidden layer's nodes between the linear layers, last one first."""

    def forward(self, rows: int) -> None:
        """Write the hidden layers' forward events and remember what is held."""
        self._held = [self._hold(rows, layer) for layer in self._layers.all[:-1]]

    def _hold(self, rows: int, layer: Layer) -> Held:
        """Write a hidden layer, which holds what its derivatives need."""
        layers, keeps = self._layers, self._layers.activation.keeps
        by_activation = keeps == "output" or layers.dropout is None
        before = keeps in ("input", "operands")
        before = before or (not layers.activation.allocates and by_activation)
        of_linear, of_norm, of_activation = (
            "activation" if each else "temporary"
            for each in (layers.norm is not None or before, before, by_activation)
        )
        linear = given = layers.linear(rows, layer, of_linear)
        held: dict[str, Blocks] = {}
        if layers.norm is not None:
            given, statistics = layers.norm.forward(
                rows, layer.fan_out, layer.norm_module, (of_norm, "activation")
            )
            held[NORM] = (linear, *statistics)
        output, taken = layers.activate(rows, layer, given, of_activation)
        if keeps == "output":
            layers.free(taken)
        held[ACTIVATION] = {"output": (output,), "input": (given,), "operands": taken}.get(
            keeps, ()
        )
        if layers.dropout is None:
            return {**held, NEXT: () if keeps == "output" else (output,)}
        size = rows * layer.fan_out * layers.element_bytes
        mask, result = layers.dropout.apply(size, layer.dropout_module)
        if output not in held[ACTIVATION]:
            layers.writer.free(output)
        return {**held, DROPOUT: (mask,), NEXT: (result,)}

    def backward(self, rows: int, gradient: Event) -> Event:
        """Write every node's backward events, given the logits' gradient."""
        layers, held = self._layers, self._held
        gradient = layers.linear_backward(rows, len(held), gradient, held[-1][NEXT])
        for index in range(len(held) - 1, -1, -1):
            for kind in self._nodes:
                result, added = self._node_backward(kind, rows, layers.all[index], gradient)
                layers.free((gradient, *held[index][kind], *added))
                gradient = result
            after = held[index - 1][NEXT] if index else ()
            gradient = layers.linear_backward(rows, index, gradient, after)
        return gradient

    def _node_backward(
        self, kind: str, rows: int, layer: Layer, gradient: Event
    ) -> tuple[Event, Blocks]:
        """Write a node's backward events."""
        layers = self._layers
        if kind == ACTIVATION:
            return layers.activation_backward(rows, layer, gradient), ()
        if kind == DROPOUT:
            assert layers.dropout is not None, "its node is there"
            size = rows * layer.fan_out * layers.element_bytes
            return layers.dropout.backward(size, layer.dropout_module), ()
        assert layers.norm is not None, "its node is there"
        module, added = layer.norm_module, []

        def allocate(number: int, size_bytes: int, operator: str) -> None:
            added.append(layers.gradient(size_bytes, layer.place + 2 + number, operator, module))

        return layers.norm.backward(rows, layer.fan_out, module, allocate), added

"""Forward and backward pass of a whole network, event by event.

What a node of the backward pass saved is freed when that node has run, and a gradient
when the node that consumed it has run (torch/csrc/autograd/engine.cpp, ``evaluate_function``).
"""

from typing import Protocol

from harness.prediction.mlp import activations
from harness.prediction.mlp.activations import Kept
from harness.prediction.mlp.layers import Layer, Layers
from harness.schema.events import Event


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
        applied = layers.activate(rows, layer, linear, "temporary")
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


class Plain(Passes):
    """Hidden layers of which autograd keeps everything that their derivatives need."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._kept: list[Kept] = []

    def forward(self, rows: int) -> None:
        """Write the hidden layers' forward events and remember what is kept."""
        self._kept = [
            train_layer(self._layers, rows, layer, "activation") for layer in self._layers.all[:-1]
        ]

    def backward(self, rows: int, gradient: Event) -> Event:
        """Write every linear layer's backward events, given the logits' gradient."""
        layers, kept = self._layers, self._kept
        gradient = layers.linear_backward(rows, len(kept), gradient, kept[-1].by_next)
        for index in range(len(kept) - 1, -1, -1):
            result = layers.activation_backward(rows, layers.all[index], gradient)
            if result is not gradient:
                layers.free((gradient, *kept[index].by_activation))
            after = kept[index - 1].by_next if index else ()
            gradient = layers.linear_backward(rows, index, result, after)
        return gradient


def train_layer(layers: Layers, rows: int, layer: Layer, category: str, prefix: str = "") -> Kept:
    """Write a hidden layer's forward events under autograd; what is kept is of ``category``."""
    activation = layers.activation
    drops_linear = activation.allocates and activation.keeps == "output"
    of_linear = "temporary" if drops_linear else category
    linear = layers.linear(rows, layer, of_linear, prefix)
    applied = layers.activate(rows, layer, linear, category, prefix)
    if drops_linear:
        layers.writer.free(linear)
    return activations.kept(activation, applied)

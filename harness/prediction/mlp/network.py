"""Writes the forward and the backward pass of a whole network.

After a node has run, autograd frees the saved tensors of the node and the gradient that the node
used (torch/csrc/autograd/engine.cpp, ``evaluate_function``).
"""

from collections.abc import Mapping

from harness.prediction.mlp.checkpoint import Checkpointed
from harness.prediction.mlp.layers import Blocks, MlpLayer, MlpLayers
from harness.schema.events import Event

DROPOUT, ACTIVATION, NORM, NEXT = "dropout", "activation", "norm", "next"


def predict(layers: MlpLayers, rows: int) -> None:
    """Write a forward pass that frees the input of each layer, because autograd is off.

    ``nn.Sequential`` frees an input after a module; ``MLPScratch`` frees an input after a layer.
    """
    free = layers.writer.free
    hidden: Event | None = None
    for layer in layers.all[:-1]:
        linear = layers.linear(rows, layer, "temporary")
        if not layers.from_scratch:
            free(hidden)
        given = linear
        if layers.norm is not None:
            categories = ("temporary", "temporary")
            given, statistics = layers.norm.forward(
                rows, layer.fan_out, layer.norm_module, categories
            )
            free(*statistics, linear)
        output, taken = layers.activate(rows, layer, given, "temporary")
        free(*taken)
        if layers.from_scratch:
            free(hidden)
        hidden = output
    logits = layers.linear(rows, layers.all[-1], "temporary")
    free(hidden, logits)
    layers.leave()


def train(layers: MlpLayers, passes: "Plain | Checkpointed", rows: int, parts: int) -> None:
    """Write the forward and the backward pass of one micro-batch with ``rows`` examples."""
    writer = layers.writer
    writer.phase = "forward"
    passes.forward(rows)
    logits = layers.linear(rows, layers.all[-1], "temporary")
    of_batch = layers.loss(rows, logits)
    layers.leave()
    writer.phase = "backward"
    gradient, until_end = layers.loss_backward(rows, of_batch, parts)
    passes.backward(rows, gradient)
    writer.free(*until_end)


Held = Mapping[str, Blocks]
"""Blocks that autograd saves for one hidden layer, by the node that frees them."""


class Plain:
    """Hidden layers without checkpointing; autograd keeps their saved tensors.

    Each module of ``nn.Sequential`` has its own backward node. A module's input is freed after the
    module, unless autograd saves it. Normalizations save input and statistics, activations save
    what their derivative needs, dropout saves its mask, and linear layers save their input.
    """

    def __init__(self, layers: MlpLayers) -> None:
        self._layers = layers
        self._held: list[Held] = []

    def forward(self, rows: int) -> None:
        """Write the forward events of the hidden layers, and store their saved blocks."""
        self._held = [self._hold(rows, layer) for layer in self._layers.all[:-1]]

    def _hold(self, rows: int, layer: MlpLayer) -> Held:
        """Write the forward events of a hidden layer; return its saved blocks."""
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
            layers.writer.free(*taken)
        kept = {"output": (output,), "input": (given,), "operands": taken}.get(keeps, ())
        held[ACTIVATION] = kept
        if layers.dropout is None:
            return {**held, NEXT: () if keeps == "output" else (output,)}
        size = rows * layer.fan_out * layers.element_bytes
        mask, result = layers.dropout.apply(size, layer.dropout_module)
        if output not in kept:
            layers.writer.free(output)
        return {**held, DROPOUT: (mask,), NEXT: (result,)}

    def backward(self, rows: int, gradient: Event) -> None:
        """Write the backward events of all nodes, starting with the gradient of the logits."""
        layers, held = self._layers, self._held
        gradient = layers.linear_backward(rows, len(held), gradient, held[-1][NEXT])
        for index in range(len(held) - 1, -1, -1):
            layer, free = layers.all[index], layers.writer.free
            if layers.dropout is not None:
                size = rows * layer.fan_out * layers.element_bytes
                result = layers.dropout.backward(size, layer.dropout_module)
                free(gradient, *held[index][DROPOUT])
                gradient = result
            if layers.activation.keeps != "nothing":
                result = layers.activation_backward(rows, layer, gradient)
                free(gradient, *held[index][ACTIVATION])
                gradient = result
            if layers.norm is not None:
                result, added = self._norm_backward(rows, layer)
                free(gradient, *held[index][NORM], *added)
                gradient = result
            after = held[index - 1][NEXT] if index else ()
            gradient = layers.linear_backward(rows, index, gradient, after)

    def _norm_backward(self, rows: int, layer: MlpLayer) -> tuple[Event, Blocks]:
        """Write a normalization's gradients; return the input's gradient and the blocks to free."""
        norm, module, added = self._layers.norm, layer.norm_module, []
        assert norm is not None, "its node is there"

        def allocate(number: int, size_bytes: int, operator: str) -> None:
            place = layer.place + 2 + number
            added.append(self._layers.gradient(size_bytes, place, operator, module))

        return norm.backward(rows, layer.fan_out, module, allocate), added

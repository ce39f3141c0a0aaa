"""Writes the events of checkpointed segments, which run again in the backward pass.

The forward pass of a segment saves the segment's input and the random state. The backward pass runs
the segment again with autograd, up to the last tensor that is needed ("early stop"). Each tensor is
freed after the backward node that used it.

Source: torch/utils/checkpoint.py, ``_checkpoint_without_reentrant_generator``.
"""

from itertools import pairwise
from typing import NamedTuple

from harness.prediction.mlp.activations import MAXIMUM
from harness.prediction.mlp.layers import Blocks, MlpLayers
from harness.schema.events import Event

RANDOM_STATE_BYTES = 5056
"""Size of ``torch.get_rng_state()`` on the CPU: a Mersenne Twister and a cached number."""


class Segment(NamedTuple):
    """A segment after its forward pass: its first layer, its last layer and its saved blocks."""

    first: int
    last: int
    random_state: Event
    input: Event | None
    """Input of the segment; None for the first segment, whose input is the batch."""
    output: Event


class Checkpointed:
    """Hidden layers in checkpointed segments, which save only their inputs."""

    def __init__(self, layers: MlpLayers, segments: int) -> None:
        self._layers = layers
        depth = len(layers.all) - 1
        self._bounds = [depth * number // segments for number in range(segments + 1)]
        self._held: list[Segment] = []
        self._by_next: dict[int, Blocks] = {}
        """Blocks that autograd saves for the linear layer after each hidden layer."""
        self._by_activation: dict[int, Blocks] = {}
        """Blocks that are freed after the backward pass of each activation."""

    def forward(self, rows: int) -> None:
        """Write the forward events of all segments; only the outputs of segments are kept."""
        layers, self._held = self._layers, []
        given: Event | None = None
        for first, stop in pairwise(self._bounds):
            state = layers.writer.allocate(RANDOM_STATE_BYTES, "")
            hidden: Event | None = None
            for index in range(first, stop):
                layer = layers.all[index]
                category = "activation" if index == stop - 1 else "temporary"
                of_linear = "temporary" if layers.activation.allocates else category
                linear = layers.linear(rows, layer, of_linear)
                output, taken = layers.activate(rows, layer, linear, category, others="temporary")
                layers.writer.free(*taken, hidden)
                hidden = output
            assert hidden is not None, "a segment has at least one layer"
            self._held.append(Segment(first, stop - 1, state, given, hidden))
            given = hidden

    def backward(self, rows: int, gradient: Event) -> None:
        """Write the backward events of all layers, starting with the gradient of the logits."""
        output = self._held[-1].output
        gradient = self._layers.linear_backward(
            rows, len(self._layers.all) - 1, gradient, (output,)
        )
        for segment in reversed(self._held):
            for index in range(segment.last, segment.first - 1, -1):
                gradient = self._layer_backward(rows, segment, index, gradient)

    def _layer_backward(self, rows: int, segment: Segment, index: int, gradient: Event) -> Event:
        layers, layer = self._layers, self._layers.all[index]
        activation = layers.activation
        pending = index == segment.last
        if pending and activation.keeps != "nothing":
            node = activation.backward.rpartition("/")[0]
            self._recompute(rows, segment, node, layer.activation_module)
            pending = False
        result = layers.activation_backward(rows, layer, gradient)
        if result is not gradient:
            layers.writer.free(*reversed(self._by_activation[index]), gradient)

        def unpack(node: str) -> Blocks:
            if pending:
                self._recompute(rows, segment, node, layer.module)
            return self._by_next[index - 1] if index > segment.first else ()

        after = (segment.random_state, segment.input) if index == segment.first else ()
        return layers.linear_backward(rows, index, result, after, unpack)

    def _recompute(self, rows: int, segment: Segment, node: str, module: str) -> None:
        """Write the second forward pass of a segment, inside the backward node that needs it."""
        layers, keeps, prefix = self._layers, self._layers.activation.keeps, f"{node}/"
        state = layers.writer.allocate(RANDOM_STATE_BYTES, node, "temporary", module)
        for index in range(segment.first, segment.last):
            layer = layers.all[index]
            linear = layers.linear(rows, layer, "temporary", prefix)
            output, taken = layers.activate(rows, layer, linear, "temporary", prefix)
            self._by_next[index] = () if keeps == "output" else (output,)
            self._by_activation[index] = (output,) if keeps == "output" else taken
            if keeps == "output":
                layers.writer.free(*taken)
        dropped = self._last(rows, segment.last, prefix)
        # Sequential's frame, in the exception's traceback, still names the linear layer's output.
        layers.writer.free(*((*dropped, state) if layers.from_scratch else (state, *dropped)))

    def _last(self, rows: int, index: int, prefix: str) -> Blocks:
        """Write a segment's last layer until its last tensor is saved; return blocks to free."""
        layers, layer, activation = self._layers, self._layers.all[index], self._layers.activation
        if activation.keeps == "nothing":
            return ()
        linear = layers.linear(rows, layer, "temporary", prefix)
        self._by_activation[index] = (linear,)
        if activation.keeps == "input" or not activation.allocates:
            return ()
        if activation is MAXIMUM:
            self._by_activation[index] = (layers.zeros(rows, layer, prefix), linear)
            return ()
        output, _ = layers.activate(rows, layer, linear, "temporary", prefix)
        self._by_activation[index] = (output,)
        return (linear,)

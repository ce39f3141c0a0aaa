"""Computes the bytes of an MLP and the peak of its backward pass by closed forms.

The closed forms do not include the buffer in which CUDA sums a bias gradient. CUDA needs a buffer
for bias gradients only if the batch is many times the width (16 MiB for 4,096 x 512).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from harness.schema.traced_run import StepJob

FLOAT_BYTES, LABEL_BYTES, LOSS_BYTES = 4, 8, 8

WORKSPACE_BYTES = 8_519_680
"""Bytes of the cuBLAS workspace at compute capability 8.x. Since PyTorch 2.15, the workspace is
alive only during a matmul."""

COUNTER_BYTES = 64
"""Upper bound of the bytes of scalars in Adam's update; the closed forms ignore the scalars."""

Gradients = Literal["dropped", "kept", "updated"]
"""``dropped``: the gradients were freed before the step. ``kept``: the gradients exist from an
earlier micro-batch. ``updated``: each gradient is freed after its parameter's update."""


@dataclass(frozen=True, kw_only=True)
class Mlp:
    """A training step of an MLP with ReLU; ``batch`` is the number of examples per micro-batch."""

    depth: int
    width: int
    batch: int
    features: int = 784
    classes: int = 10

    def job(self, optimizer: str, device: str, micro_batches: int = 1) -> StepJob:
        """Return the job that traces the step with an optimizer."""
        return StepJob(
            network=".layer_stacks:mlp",
            arguments={"depth": self.depth, "width": self.width},
            batch=self.batch * micro_batches,
            accumulate=micro_batches,
            inputs=(str(self.features),),
            optimizer=optimizer,
            device="cuda" if device == "cuda" else "cpu",
        )

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Rows and columns of each layer's weight, from the first layer."""
        sizes = (self.features, *(self.width for _ in range(self.depth)), self.classes)
        return [(rows, columns) for columns, rows in pairwise(sizes)]

    @property
    def layer_bytes(self) -> list[int]:
        """Bytes of each layer's weight and bias."""
        return [FLOAT_BYTES * rows * (columns + 1) for rows, columns in self.shapes]

    @property
    def hidden_bytes(self) -> int:
        """Bytes of a hidden layer's activations."""
        return FLOAT_BYTES * self.batch * self.width

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters, which are also the bytes of all gradients."""
        return sum(self.layer_bytes)

    @property
    def input_bytes(self) -> int:
        """Bytes of the examples and labels of a micro-batch."""
        return self.batch * (FLOAT_BYTES * self.features + LABEL_BYTES)

    def adam_bytes(self, device: str) -> int:
        """Return the bytes of Adam's moments, plus the bytes of Adam's step counters on the CPU."""
        counters = 2 * len(self.shapes) if device == "cpu" else 0
        return 2 * self.parameter_bytes + FLOAT_BYTES * counters

    def backward_peak(self, gradients: Gradients, device: str) -> int:
        """Return the peak of the backward pass, without parameters, optimizer state and batch.

        The backward pass begins with the last layer. In each layer, the backward of ReLU first
        allocates a gradient of the size of ReLU's output. After ReLU, the backward of the linear
        layer allocates the gradients of input, weight and bias.
        """
        sizes, hidden = self.layer_bytes, self.hidden_bytes
        highest = 0
        for layer in range(self.depth, 0, -1):
            held = {
                "dropped": sum(sizes[layer:]),
                "kept": self.parameter_bytes,
                "updated": 0,
            }[gradients]
            relu = layer * hidden + 2 * hidden + held
            inputs = hidden if layer > 1 else 0
            new = sizes[layer - 1]
            linear = layer * hidden + inputs + held + new
            bias = FLOAT_BYTES * self.shapes[layer - 1][0]
            multiplying = linear - bias + (WORKSPACE_BYTES if device == "cuda" else 0)
            highest = max(highest, relu, linear, multiplying)
        return highest + LOSS_BYTES

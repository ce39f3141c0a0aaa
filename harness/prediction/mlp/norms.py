"""Blocks of a normalization between a linear layer and its activation.

Both keep their input and two numbers, a mean and an inverse deviation: batch normalization for
each unit, layer normalization for each row. The rest is scratch of the kernels, of which each
thread has its part.

Source: aten/src/ATen/native/Normalization.cpp, cpu/batch_norm_kernel.cpp (where an input of
rows and units counts as channels-last) and cpu/layer_norm_kernel.cpp.
"""

from collections.abc import Callable
from typing import NamedTuple

from harness.prediction.mlp.activations import NODE
from harness.prediction.mlp.formula import DTYPE_BYTES, TRACKED_BYTES
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload


class Normalised(NamedTuple):
    """The blocks that one application leaves."""

    output: Event
    statistics: tuple[Event, ...]
    """In addition to the input, what the backward pass needs."""


Gradient = Callable[[int, int, str], None]
"""Takes the gradient of the weight (0) or the bias (1), given its bytes and operators."""


class BatchNorm:
    """``nn.BatchNorm1d``: one mean and deviation a unit, over the rows.

    bfloat16 and float16 are summed in float32. float16 keeps its sums in float32 too.
    """

    _BACKWARD = (
        f"{NODE}NativeBatchNormBackward0/NativeBatchNormBackward0/aten::native_batch_norm_backward"
    )
    _FORWARD = "aten::batch_norm/aten::_batch_norm_impl_index/aten::native_batch_norm"

    def __init__(self, writer: TraceWriter, workload: Workload) -> None:
        self._writer = writer
        self._element = element = DTYPE_BYTES[workload.dtype]
        self._sum = max(element, 4)
        self._moment = 4 if workload.dtype == "float16" else element
        self._threads = workload.threads
        self._trains = workload.mode == "train"

    def build(self, width: int) -> None:
        """Write the parameters, and the buffers, which count as parameters."""
        operators = ("aten::empty", "aten::empty", "aten::zeros/aten::empty")
        for operator in (*operators, "aten::ones/aten::empty"):
            self._writer.allocate(width * self._element, operator, "parameter")
        self._writer.allocate(TRACKED_BYTES, "aten::empty", "parameter")

    def forward(
        self, rows: int, width: int, module: str, categories: tuple[str, str]
    ) -> Normalised:
        """Write the forward pass; in inference the running statistics serve."""
        allocate, free = self._writer.allocate, self._writer.free
        of_output, of_statistics = categories
        operator = f"{self._FORWARD}/aten::empty"
        if self._trains:  # num_batches_tracked.add_(1): a wrapped number
            free(self._writer.take_on_host(8, "", "temporary", module))
        like = f"{self._FORWARD}/aten::empty_like/aten::empty"
        output = allocate(rows * width * self._element, like, of_output, module)
        statistics: tuple[Event, ...] = ()
        if self._trains:
            size = width * self._element
            mean = allocate(size, operator, of_statistics, module)
            statistics = (mean, allocate(size, operator, of_statistics, module))
            self._collect(rows, width, module)
        factor = allocate(width * self._sum, operator, "temporary", module)
        free(allocate(width * self._sum, operator, "temporary", module))
        free(factor)
        return Normalised(output, statistics)

    def _collect(self, rows: int, width: int, module: str) -> None:
        """Write the sums over the rows, a part of them by each thread."""
        allocate, free = self._writer.allocate, self._writer.free
        operator = f"{self._FORWARD}/aten::empty"
        mean = allocate(width * self._moment, operator, "temporary", module)
        variance = allocate(width * self._moment, operator, "temporary", module)
        if rows > self._threads or self._element < self._sum:
            size = self._threads * width * self._sum
            free(allocate(size, f"{self._FORWARD}/aten::zeros/aten::empty", "temporary", module))
        free(variance)
        free(mean)

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients; a first block for the input's is allocated and not used."""
        allocate, free = self._writer.allocate, self._writer.free
        like, empty = (
            f"{self._BACKWARD}/aten::empty_like/aten::empty",
            f"{self._BACKWARD}/aten::empty",
        )
        unused = allocate(rows * width * self._element, like, "temporary", module)
        for place in range(2):
            gradient(place, width * self._element, empty)
        result = allocate(rows * width * self._element, like, "temporary", module)
        free(unused)
        terms = [
            allocate(width * self._sum, empty, "temporary", module)
            for _ in range(3 if self._element < self._sum else 0)
        ]
        size = 2 * self._threads * width * self._sum
        free(allocate(size, f"{self._BACKWARD}/aten::zeros/aten::empty", "temporary", module))
        for term in reversed(terms):
            free(term)
        return result


class LayerNorm:
    """``nn.LayerNorm``: one mean and deviation a row, over the units."""

    _BACKWARD = (
        f"{NODE}NativeLayerNormBackward0/NativeLayerNormBackward0/aten::native_layer_norm_backward"
    )
    _FORWARD = "aten::layer_norm/aten::native_layer_norm/aten::empty"

    def __init__(self, writer: TraceWriter, workload: Workload) -> None:
        self._writer = writer
        self._element = self._statistic = DTYPE_BYTES[workload.dtype]
        self._threads = workload.threads

    def build(self, width: int) -> None:
        """Write weight and bias."""
        for _ in range(2):
            self._writer.allocate(width * self._element, "aten::empty", "parameter")

    def forward(
        self, rows: int, width: int, module: str, categories: tuple[str, str]
    ) -> Normalised:
        """Write the forward pass, in inference too with both statistics."""
        allocate, operator = self._writer.allocate, self._FORWARD
        of_output, of_statistics = categories
        output = allocate(rows * width * self._element, operator, of_output, module)
        mean = allocate(rows * self._statistic, operator, of_statistics, module)
        deviation = allocate(rows * self._statistic, operator, of_statistics, module)
        return Normalised(output, (mean, deviation))

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients, the parameters' summed by each thread first."""
        allocate, empty = self._writer.allocate, f"{self._BACKWARD}/aten::empty"
        result = allocate(rows * width * self._element, empty, "temporary", module)
        for place in range(2):
            gradient(place, width * self._element, empty)
        size = 2 * self._threads * width * self._element
        self._writer.free(allocate(size, f"{self._BACKWARD}/aten::resize_", "temporary", module))
        return result


Norm = BatchNorm | LayerNorm

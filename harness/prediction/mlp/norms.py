"""Writes the blocks of a normalization between a linear layer and its activation.

Batch and layer normalization save their input, a mean and an inverse standard deviation. Batch
normalization saves mean and deviation for each unit, and layer normalization saves them for each
row. Kernels also allocate temporary blocks, of which each thread uses a part.

Source: aten/src/ATen/native/Normalization.cpp (``_batch_norm_impl_index``),
cpu/batch_norm_kernel.cpp (condition for channels-last inputs) and cpu/layer_norm_kernel.cpp.
"""

from collections.abc import Callable

from harness.prediction.mlp.activations import NODE
from harness.prediction.mlp.formula import DTYPE_BYTES, TRACKED_BYTES
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload

Gradient = Callable[[int, int, str], None]
"""Function that writes a gradient; its arguments are 0 (weight) or 1 (bias), bytes and operator."""

Outputs = tuple[Event, tuple[Event, ...]]
"""A normalization's output, and the statistics that autograd saves."""


class _Norm:
    """Common part of ``BatchNorm`` and ``LayerNorm``."""

    def __init__(self, writer: TraceWriter, workload: Workload) -> None:
        self._writer = writer
        self._element = element = DTYPE_BYTES[workload.dtype]
        self._sum = max(element, 4)
        self._moment = 4 if workload.dtype == "float16" else element
        self._threads = workload.threads
        self._trains = workload.mode == "train"

    def _pair(self, size: int, operator: str, category: str, module: str) -> tuple[Event, ...]:
        allocate = self._writer.allocate
        return tuple(allocate(size, operator, category, module) for _ in range(2))


class BatchNorm(_Norm):
    """``nn.BatchNorm1d``, which has a mean and a deviation for each unit.

    bfloat16 and float16 are summed in float32. Temporary statistics of float16 are also float32.
    """

    _BACKWARD = (
        f"{NODE}NativeBatchNormBackward0/NativeBatchNormBackward0/aten::native_batch_norm_backward"
    )
    _FORWARD = "aten::batch_norm/aten::_batch_norm_impl_index/aten::native_batch_norm"

    def build(self, width: int) -> None:
        """Write the parameters and the buffers; buffers have the category "parameter", too."""
        operators = ("aten::empty", "aten::empty", "aten::zeros/aten::empty")
        for operator in (*operators, "aten::ones/aten::empty"):
            self._writer.allocate(width * self._element, operator, "parameter")
        self._writer.allocate(TRACKED_BYTES, "aten::empty", "parameter")

    def forward(self, rows: int, width: int, module: str, categories: tuple[str, str]) -> Outputs:
        """Write the forward pass; inference uses the running statistics."""
        writer, of_output, of_statistics = self._writer, *categories
        empty, zeros = (f"{self._FORWARD}/aten::{name}empty" for name in ("", "zeros/aten::"))
        sums = width * self._sum
        if self._trains:  # num_batches_tracked.add_(1): a wrapped number
            writer.scratch((8, ""), module=module)
        like = f"{self._FORWARD}/aten::empty_like/aten::empty"
        output = writer.allocate(rows * width * self._element, like, of_output, module)
        statistics: tuple[Event, ...] = ()
        if self._trains:
            statistics = self._pair(width * self._element, empty, of_statistics, module)
            by_threads = rows > self._threads or self._element < self._sum
            parts = [(self._threads * sums, zeros)] * by_threads
            writer.scratch(*[(width * self._moment, empty)] * 2, *parts, module=module)
        writer.scratch(*[(sums, empty)] * 2, module=module)
        return output, statistics

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients and sums; only the second block for the input's gradient is used."""
        writer, empty = self._writer, f"{self._BACKWARD}/aten::empty"
        like = f"{self._BACKWARD}/aten::empty_like/aten::empty"
        size, sums = rows * width * self._element, width * self._sum
        first = writer.allocate(size, like, "temporary", module)
        for place in range(2):
            gradient(place, width * self._element, empty)
        result = writer.allocate(size, like, "temporary", module)
        writer.free(first)
        terms = [(sums, empty)] * (3 if self._element < self._sum else 0)
        parts = (2 * self._threads * sums, f"{self._BACKWARD}/aten::zeros/aten::empty")
        writer.scratch(*terms, parts, module=module)
        return result


class LayerNorm(_Norm):
    """``nn.LayerNorm``, which has a mean and a deviation for each row."""

    _BACKWARD = (
        f"{NODE}NativeLayerNormBackward0/NativeLayerNormBackward0/aten::native_layer_norm_backward"
    )
    _FORWARD = "aten::layer_norm/aten::native_layer_norm/aten::empty"

    def build(self, width: int) -> None:
        """Write the allocations of weight and bias."""
        self._pair(width * self._element, "aten::empty", "parameter", "")

    def forward(self, rows: int, width: int, module: str, categories: tuple[str, str]) -> Outputs:
        """Write the forward pass, which computes the statistics even in inference."""
        of_output, of_statistics = categories
        size = rows * width * self._element
        output = self._writer.allocate(size, self._FORWARD, of_output, module)
        return output, self._pair(rows * self._element, self._FORWARD, of_statistics, module)

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients; each thread first sums its part of the weight and bias gradients."""
        writer, empty = self._writer, f"{self._BACKWARD}/aten::empty"
        result = writer.allocate(rows * width * self._element, empty, "temporary", module)
        size = width * self._element
        for place in range(2):
            gradient(place, size, empty)
        per_thread = (2 * self._threads * size, f"{self._BACKWARD}/aten::resize_")
        writer.scratch(per_thread, module=module)
        return result


Norm = BatchNorm | LayerNorm


def norm_of(workload: Workload, writer: TraceWriter) -> Norm | None:
    """Return the normalization of ``workload``; None if it has no normalization."""
    kinds: dict[str, type[Norm]] = {"batch": BatchNorm, "layer": LayerNorm}
    kind = kinds.get(workload.norm)
    return kind(writer, workload) if kind else None

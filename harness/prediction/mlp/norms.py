"""Blocks of a normalization between a linear layer and its activation, on the CPU and on CUDA.

Both keep their input and two numbers, a mean and an inverse deviation: batch normalization for
each unit, layer normalization for each row. The rest is scratch of the kernels. On the CPU each
thread has its part of it; on CUDA statistics have the data type of the sums. cuDNN is not used:
PyTorch asks it for inputs of three dimensions or more only, and an MLP's have two.

Source: aten/src/ATen/native/Normalization.cpp (``_batch_norm_impl_index``),
cpu/batch_norm_kernel.cpp (where an input of rows and units counts as channels-last),
cpu/layer_norm_kernel.cpp, cuda/Normalization.cu, cuda/Normalization.cuh
(``flexible_launch_configs``) and cuda/layer_norm_kernel.cu (``LaunchGammaBetaBackwardCUDAKernel``).
"""

from collections.abc import Callable

from harness.prediction.gpu.reduction import ceil_div, power_within
from harness.prediction.mlp.activations import NODE
from harness.prediction.mlp.formula import DTYPE_BYTES, TRACKED_BYTES
from harness.prediction.mlp.kernels import CudaKernels, Kernels
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload

_MOST_THREADS = 512
_TILE = 32
_VALUES_PER_THREAD = 16
_MOST_BLOCKS = 128
_FEWEST_BLOCKS = 8
_COUNTER_BYTES = 4

_MANY_ROWS = 64 * 1024
_ROWS_PER_BLOCK = 32
_MOST_GRID = 32 * 1024

Gradient = Callable[[int, int, str], None]
"""Takes the gradient of the weight (0) or the bias (1), given its bytes and operators."""

Outputs = tuple[Event, tuple[Event, ...]]
"""The output, and the statistics that the backward pass needs in addition to the input."""


class _Norm:
    """A normalization of one workload."""

    def __init__(self, writer: TraceWriter, workload: Workload, kernels: Kernels) -> None:
        self._writer = writer
        self._kernels = kernels
        self._on_cuda = isinstance(kernels, CudaKernels)
        self._element = element = DTYPE_BYTES[workload.dtype]
        self._sum = max(element, 4)
        self._statistic = self._sum if self._on_cuda else element
        self._moment = 4 if workload.dtype == "float16" else element
        self._threads = workload.threads
        self._trains = workload.mode == "train"

    def _pair(self, size: int, operator: str, category: str, module: str) -> tuple[Event, ...]:
        allocate = self._writer.allocate
        return tuple(allocate(size, operator, category, module) for _ in range(2))


class BatchNorm(_Norm):
    """``nn.BatchNorm1d``: one mean and deviation a unit, over the rows.

    bfloat16 and float16 are summed in float32. float16 keeps its sums in float32 too.
    """

    _BACKWARD = (
        f"{NODE}NativeBatchNormBackward0/NativeBatchNormBackward0/aten::native_batch_norm_backward"
    )
    _FORWARD = "aten::batch_norm/aten::_batch_norm_impl_index/aten::native_batch_norm"

    def build(self, width: int) -> None:
        """Write the parameters, and the buffers, which count as parameters."""
        operators = ("aten::empty", "aten::empty", "aten::zeros/aten::empty")
        for operator in (*operators, "aten::ones/aten::empty"):
            self._writer.allocate(width * self._element, operator, "parameter")
        self._writer.allocate(TRACKED_BYTES, "aten::empty", "parameter")

    def forward(self, rows: int, width: int, module: str, categories: tuple[str, str]) -> Outputs:
        """Write the forward pass; in inference the running statistics serve, or a copy on CUDA."""
        writer, of_output, of_statistics = self._writer, *categories
        empty, zeros = (f"{self._FORWARD}/aten::{name}empty" for name in ("", "zeros/aten::"))
        sums = width * self._sum
        if self._trains:  # num_batches_tracked.add_(1): a wrapped number
            writer.scratch_on_host((8, ""), module=module)
        like = f"{self._FORWARD}/aten::empty_like/aten::empty"
        output = writer.allocate(rows * width * self._element, like, of_output, module)
        statistics: tuple[Event, ...] = ()
        if self._trains or self._on_cuda:
            statistics = self._pair(width * self._statistic, empty, of_statistics, module)
        if self._trains and self._on_cuda:
            self._staged(4, rows, width, self._FORWARD, module)
        elif self._trains:
            by_threads = rows > self._threads or self._element < self._sum
            parts = [(self._threads * sums, zeros)] * by_threads
            writer.scratch(*[(width * self._moment, empty)] * 2, *parts, module=module)
        if not self._on_cuda:
            writer.scratch(*[(sums, empty)] * 2, module=module)
        return output, statistics

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write sums and gradients; on the CPU a first block for the input's is not used."""
        writer, empty = self._writer, f"{self._BACKWARD}/aten::empty"
        like = f"{self._BACKWARD}/aten::empty_like/aten::empty"
        size, sums = rows * width * self._element, width * self._sum
        if self._on_cuda:
            first = self._pair(sums, empty, "temporary", module)
        else:
            first = (writer.allocate(size, like, "temporary", module),)
        for place in range(2):
            gradient(place, width * self._element, empty)
        if self._on_cuda:
            self._staged(2, rows, width, self._BACKWARD, module)
        result = writer.allocate(size, like, "temporary", module)
        writer.free(*reversed(first))
        if not self._on_cuda:
            terms = [(sums, empty)] * (3 if self._element < self._sum else 0)
            parts = (2 * self._threads * sums, f"{self._BACKWARD}/aten::zeros/aten::empty")
            writer.scratch(*terms, parts, module=module)
        return result

    def _staged(self, values: int, rows: int, width: int, operator: str, module: str) -> None:
        """Write where several blocks of threads share a unit: ``values`` of each, and counters."""
        units, along = batch_norm_grid(rows, width)
        if along > 1:
            staging = (values * width * along * self._sum, f"{operator}/aten::empty")
            counters = (units * _COUNTER_BYTES, f"{operator}/aten::zeros/aten::empty")
            self._writer.scratch(staging, counters, module=module)


class LayerNorm(_Norm):
    """``nn.LayerNorm``: one mean and deviation a row, over the units."""

    _BACKWARD = (
        f"{NODE}NativeLayerNormBackward0/NativeLayerNormBackward0/aten::native_layer_norm_backward"
    )
    _FORWARD = "aten::layer_norm/aten::native_layer_norm/aten::empty"

    def build(self, width: int) -> None:
        """Write weight and bias."""
        self._pair(width * self._element, "aten::empty", "parameter", "")

    def forward(self, rows: int, width: int, module: str, categories: tuple[str, str]) -> Outputs:
        """Write the forward pass, in inference too with both statistics."""
        of_output, of_statistics = categories
        size = rows * width * self._element
        output = self._writer.allocate(size, self._FORWARD, of_output, module)
        return output, self._pair(rows * self._statistic, self._FORWARD, of_statistics, module)

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients; the parameters' are summed by each thread first.

        On CUDA those of many short rows are summed in two steps.
        """
        writer, empty = self._writer, f"{self._BACKWARD}/aten::empty"
        result = writer.allocate(rows * width * self._element, empty, "temporary", module)
        size, kernels, tiles = width * self._element, self._kernels, -(-width // _TILE)
        few = isinstance(kernels, CudaKernels) and width // _TILE < kernels.gpu.multiprocessors // 2
        if few and rows > _MANY_ROWS:
            sums = f"{self._BACKWARD}/aten::sum"
            parts = min(_MOST_GRID // tiles, -(-rows // _ROWS_PER_BLOCK))
            replaced = self._pair(size, empty, "temporary", module)
            staged = self._pair(parts * size, empty, "temporary", module)
            for place, block in enumerate(replaced):
                gradient(place, size, sums)
                kernels.column_sums(parts, width, self._element, sums, module)
                writer.free(block)
            writer.free(*reversed(staged))
            return result
        for place in range(2):
            gradient(place, size, empty)
        if not self._on_cuda:
            per_thread = (2 * self._threads * size, f"{self._BACKWARD}/aten::resize_")
            writer.scratch(per_thread, module=module)
        return result


Norm = BatchNorm | LayerNorm


def norm_of(workload: Workload, writer: TraceWriter, kernels: Kernels) -> Norm | None:
    """Return the normalization of ``workload``'s hidden layers, if they have one."""
    kinds: dict[str, type[Norm]] = {"batch": BatchNorm, "layer": LayerNorm}
    kind = kinds.get(workload.norm)
    return kind(writer, workload, kernels) if kind else None


def batch_norm_grid(rows: int, width: int) -> tuple[int, int]:
    """Return how many blocks of threads sum over rows, along the units and along the rows.

    Source: ``flexible_launch_configs``.
    """
    wanted = power_within(ceil_div(rows, _VALUES_PER_THREAD))
    block_width = min(power_within(width), _TILE)
    block_height = min(wanted, _MOST_THREADS // block_width)
    if block_width * block_height != _MOST_THREADS:
        block_width = min(power_within(width), _MOST_THREADS // block_height)
    along = min(-(-rows // (block_height * _VALUES_PER_THREAD)), _MOST_BLOCKS)
    return -(-width // block_width), along if along >= _FEWEST_BLOCKS else 1

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
from typing import NamedTuple

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


class Normalised(NamedTuple):
    """The blocks that one application leaves."""

    output: Event
    statistics: tuple[Event, ...]
    """In addition to the input, what the backward pass needs."""


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

    def forward(
        self, rows: int, width: int, module: str, categories: tuple[str, str]
    ) -> Normalised:
        """Write the forward pass; in inference the running statistics serve, or a copy on CUDA."""
        of_output, of_statistics = categories
        empty = f"{self._FORWARD}/aten::empty"
        if self._trains:  # num_batches_tracked.add_(1): a wrapped number
            self._writer.scratch_on_host((8, ""), module=module)
        like = f"{self._FORWARD}/aten::empty_like/aten::empty"
        output = self._writer.allocate(rows * width * self._element, like, of_output, module)
        statistics: tuple[Event, ...] = ()
        if self._trains or self._on_cuda:
            statistics = self._pair(width * self._statistic, empty, of_statistics, module)
        if self._on_cuda:
            if self._trains:
                self._staged(4, rows, width, self._FORWARD, module)
        else:
            if self._trains:
                moments = [(width * self._moment, empty)] * 2
                sums = (
                    self._threads * width * self._sum,
                    f"{self._FORWARD}/aten::zeros/aten::empty",
                )
                by_threads = rows > self._threads or self._element < self._sum
                self._writer.scratch(*moments, *[sums] * by_threads, module=module)
            self._writer.scratch(*[(width * self._sum, empty)] * 2, module=module)
        return Normalised(output, statistics)

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write sums and gradients; on the CPU a first block for the input's is not used."""
        writer, empty = self._writer, f"{self._BACKWARD}/aten::empty"
        like = f"{self._BACKWARD}/aten::empty_like/aten::empty"
        size, sums = rows * width * self._element, width * self._sum
        first = (
            self._pair(sums, empty, "temporary", module)
            if self._on_cuda
            else (writer.allocate(size, like, "temporary", module),)
        )
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
        grid = batch_norm_grid(rows, width)
        if grid.rows > 1:
            staging = (values * width * grid.rows * self._sum, f"{operator}/aten::empty")
            counters = (grid.units * _COUNTER_BYTES, f"{operator}/aten::zeros/aten::empty")
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

    def forward(
        self, rows: int, width: int, module: str, categories: tuple[str, str]
    ) -> Normalised:
        """Write the forward pass, in inference too with both statistics."""
        of_output, of_statistics = categories
        size = rows * width * self._element
        output = self._writer.allocate(size, self._FORWARD, of_output, module)
        statistic_bytes = rows * self._statistic
        return Normalised(output, self._pair(statistic_bytes, self._FORWARD, of_statistics, module))

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients; the parameters' are summed by each thread first.

        On CUDA those of many short rows are summed in two steps.
        """
        writer, empty = self._writer, f"{self._BACKWARD}/aten::empty"
        result = writer.allocate(rows * width * self._element, empty, "temporary", module)
        size = width * self._element
        if isinstance(self._kernels, CudaKernels) and in_two_steps(
            rows, width, self._kernels.gpu.multiprocessors
        ):
            self._two_steps(rows, width, module, gradient)
            return result
        for place in range(2):
            gradient(place, size, empty)
        if not self._on_cuda:
            parts = (2 * self._threads * size, f"{self._BACKWARD}/aten::resize_")
            writer.scratch(parts, module=module)
        return result

    def _two_steps(self, rows: int, width: int, module: str, gradient: Gradient) -> None:
        empty, sums = f"{self._BACKWARD}/aten::empty", f"{self._BACKWARD}/aten::sum"
        size, parts = width * self._element, two_step_parts(rows, width)
        replaced = self._pair(size, empty, "temporary", module)
        staged = self._pair(parts * size, empty, "temporary", module)
        for place, block in enumerate(replaced):
            gradient(place, size, sums)
            self._kernels.column_sums(parts, width, self._element, sums, module)
            self._writer.free(block)
        self._writer.free(*reversed(staged))


Norm = BatchNorm | LayerNorm


def norm_of(workload: Workload, writer: TraceWriter, kernels: Kernels) -> Norm | None:
    """Return the normalization of ``workload``'s hidden layers, if they have one."""
    kinds: dict[str, type[Norm]] = {"batch": BatchNorm, "layer": LayerNorm}
    kind = kinds.get(workload.norm)
    return kind(writer, workload, kernels) if kind else None


class Grid(NamedTuple):
    """Blocks of threads along the units and along the rows."""

    units: int
    rows: int


def batch_norm_grid(rows: int, width: int) -> Grid:
    """Return the grid of a kernel that sums over rows: ``flexible_launch_configs``."""
    wanted = _power(-(-rows // _VALUES_PER_THREAD))
    block_width = min(_power(width), _TILE)
    block_height = min(wanted, _MOST_THREADS // block_width)
    if block_width * block_height != _MOST_THREADS:
        block_width = min(_power(width), _MOST_THREADS // block_height)
    along = min(-(-rows // (block_height * _VALUES_PER_THREAD)), _MOST_BLOCKS)
    return Grid(-(-width // block_width), along if along >= _FEWEST_BLOCKS else 1)


def in_two_steps(rows: int, width: int, multiprocessors: int) -> bool:
    """Return whether layer normalization sums its parameters' gradients in two steps."""
    return rows > _MANY_ROWS and width // _TILE < multiprocessors // 2


def two_step_parts(rows: int, width: int) -> int:
    """Return into how many rows of partial sums the first of them sums."""
    return min(_MOST_GRID // -(-width // _TILE), -(-rows // _ROWS_PER_BLOCK))


def _power(number: int) -> int:
    """Return the largest power of two up to ``number``."""
    return 1 << number.bit_length() - 1

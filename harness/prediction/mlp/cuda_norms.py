"""Normalization as CUDA's own kernels do it: what it allocates, keeps and returns.

Statistics have the data type of the sums. cuDNN is not used: PyTorch asks
it for inputs of three dimensions or more only, and an MLP's have two.

Source: aten/src/ATen/native/Normalization.cpp (``_batch_norm_impl_index``),
cuda/Normalization.cu, cuda/Normalization.cuh (``flexible_launch_configs``) and
cuda/layer_norm_kernel.cu (``LaunchGammaBetaBackwardCUDAKernel``).
"""

from typing import NamedTuple

from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.norms import BatchNorm, Gradient, LayerNorm, Normalised
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


class CudaBatchNorm(BatchNorm):
    """``nn.BatchNorm1d`` on rows of units, which count as channels-last."""

    def forward(
        self, rows: int, width: int, module: str, categories: tuple[str, str]
    ) -> Normalised:
        """Write the forward pass; in inference the running statistics are copied."""
        allocate, operator = self._writer.allocate, self._FORWARD
        of_output, of_statistics = categories
        like = f"{operator}/aten::empty_like/aten::empty"
        output = allocate(rows * width * self._element, like, of_output, module)
        size = width * self._sum
        mean = allocate(size, f"{operator}/aten::empty", of_statistics, module)
        deviation = allocate(size, f"{operator}/aten::empty", of_statistics, module)
        if self._trains:
            self._staged(4, rows, width, operator, module)
        return Normalised(output, (mean, deviation))

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the two sums, the parameters' gradients and the input's."""
        allocate, free, empty = (
            self._writer.allocate,
            self._writer.free,
            f"{self._BACKWARD}/aten::empty",
        )
        sums = [allocate(width * self._sum, empty, "temporary", module) for _ in range(2)]
        for place in range(2):
            gradient(place, width * self._element, empty)
        self._staged(2, rows, width, self._BACKWARD, module)
        like = f"{self._BACKWARD}/aten::empty_like/aten::empty"
        result = allocate(rows * width * self._element, like, "temporary", module)
        for block in reversed(sums):
            free(block)
        return result

    def _staged(self, values: int, rows: int, width: int, operator: str, module: str) -> None:
        """Write where several blocks of threads share a unit: ``values`` of each, and counters."""
        grid = batch_norm_grid(rows, width)
        if grid.rows == 1:
            return
        allocate, free = self._writer.allocate, self._writer.free
        size = values * width * grid.rows * self._sum
        staging = allocate(size, f"{operator}/aten::empty", "temporary", module)
        zeros = f"{operator}/aten::zeros/aten::empty"
        free(allocate(grid.units * _COUNTER_BYTES, zeros, "temporary", module))
        free(staging)


class CudaLayerNorm(LayerNorm):
    """``nn.LayerNorm`` over the units of a row."""

    def __init__(
        self, writer: TraceWriter, workload: Workload, kernels: Kernels, multiprocessors: int
    ) -> None:
        super().__init__(writer, workload)
        self._statistic = max(DTYPE_BYTES[workload.dtype], 4)
        self._kernels = kernels
        self._multiprocessors = multiprocessors

    def backward(self, rows: int, width: int, module: str, gradient: Gradient) -> Event:
        """Write the gradients; of many short rows the parameters' are summed in two steps."""
        allocate, free, empty = (
            self._writer.allocate,
            self._writer.free,
            f"{self._BACKWARD}/aten::empty",
        )
        result = allocate(rows * width * self._element, empty, "temporary", module)
        size = width * self._element
        if not in_two_steps(rows, width, self._multiprocessors):
            for place in range(2):
                gradient(place, size, empty)
            return result
        replaced = [allocate(size, empty, "temporary", module) for _ in range(2)]
        parts = two_step_parts(rows, width)
        staged = [allocate(parts * size, empty, "temporary", module) for _ in range(2)]
        for place, block in enumerate(replaced):
            gradient(place, size, f"{self._BACKWARD}/aten::sum")
            self._kernels.column_sums(
                parts, width, self._element, f"{self._BACKWARD}/aten::sum", module
            )
            free(block)
        for block in reversed(staged):
            free(block)
        return result


def _power(number: int) -> int:
    """Return the largest power of two up to ``number``."""
    return 1 << number.bit_length() - 1

"""Scratch memory of a device's kernels: cuBLAS workspaces and partial sums of reductions."""

from functools import cache

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction
from harness.prediction.gpu.workspaces import (
    LT_WORKSPACE_BYTES,
    are_kept,
    is_lt_matmul,
    workspace_bytes,
)
from harness.prediction.mlp.trace_writer import TraceWriter

_MOST_BYTES = 2**31 - 1
_LEAST_ACCUMULATOR_BYTES = 4


class Kernels:
    """Writes the blocks of a device's kernels; each is called after its result was allocated.

    The CPU's allocate nothing but their results, as far as they are predicted: matmuls of float32
    and float64 go to MKL, whose buffers are not PyTorch's.
    """

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self.kept_bytes = 0
        """Bytes that kernels have allocated for good so far."""

    def matmul(self, k: int, n: int, operator: str, module: str = "") -> None:
        """Write what a matmul (m, k) x (k, n) allocates."""

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write what summing the columns of a contiguous matrix allocates."""


class CudaKernels(Kernels):
    """Writes the blocks that CUDA's kernels allocate for themselves on ``gpu``."""

    def __init__(self, writer: TraceWriter, gpu: Gpu) -> None:
        super().__init__(writer)
        self.gpu = gpu
        self._keeps_workspaces = are_kept()
        self._workspace_bytes = workspace_bytes(gpu.capability, gpu.workspace_config)
        self._threads: set[bool] = set()

    def matmul(self, k: int, n: int, operator: str, module: str = "") -> None:
        """Write the workspace: of the thread, the first time, or of this matmul alone."""
        size = self._workspace_bytes
        if not self._keeps_workspaces:
            if operator.endswith("aten::addmm") and is_lt_matmul(k, n):
                size = LT_WORKSPACE_BYTES
            if size:
                self._writer.scratch((size, operator), module=module)
            return
        of_autograd = self._writer.phase == "backward"
        if of_autograd not in self._threads:
            self._threads.add(of_autograd)
            self.kept_bytes += size
            if size:
                self._writer.allocate(size, operator, "temporary", module)

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write the staging buffer and the counters of sums that several blocks share."""
        total_bytes, launches = column_sums_scratch(rows, columns, element_bytes, self.gpu)
        total = None
        if total_bytes:
            total = self._writer.allocate(total_bytes, operator, "temporary", module)
        for sizes in launches:
            self._writer.scratch(*[(size, operator) for size in sizes], module=module)
        self._writer.free(total)


@cache  # the layers of a deep network ask the same again and again
def column_sums_scratch(
    rows: int, columns: int, element_bytes: int, gpu: Gpu
) -> tuple[int, list[list[int]]]:
    """Return the bytes of a buffer for all, and those of the blocks that each launch allocates.

    A matrix whose bytes 32 bits cannot count is summed in halves, and a 16-bit sum then meets in a
    buffer of its own.

    Source: aten/src/ATen/native/cuda/Reduce.cuh (``gpu_reduce_kernel``) and
    aten/src/ATen/TensorIterator.cpp (``can_use_32bit_indexing``, ``SplitUntil32Bit``).
    """
    accumulator_bytes = max(element_bytes, _LEAST_ACCUMULATOR_BYTES)
    if rows > 1 and rows * columns * element_bytes > _MOST_BYTES:
        halves = [
            column_sums_scratch(half, columns, element_bytes, gpu)[1]
            for half in (rows // 2, rows - rows // 2)
        ]
        total_bytes = accumulator_bytes * columns if element_bytes == 2 else 0
        return total_bytes, halves[0] + halves[1]
    of_one = Reduction(
        shape=(rows, columns),
        strides=(columns, 1),
        reduced=(0,),
        accumulator_bytes=accumulator_bytes,
    )
    return 0, [of_one.scratch_bytes(gpu)]

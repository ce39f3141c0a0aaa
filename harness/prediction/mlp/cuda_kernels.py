"""Allocations of CUDA's kernels: cuBLAS workspaces and scratch of reductions."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction
from harness.prediction.gpu.workspaces import (
    LT_WORKSPACE_BYTES,
    are_kept,
    is_lt_matmul,
    workspace_bytes,
)
from harness.prediction.mlp.cuda_norms import CudaBatchNorm, CudaLayerNorm
from harness.prediction.mlp.dropout import CudaDropout, Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.norms import Norm
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.workload import Workload

_MOST_BYTES = 2**31 - 1
_LEAST_ACCUMULATOR_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class ColumnSums:
    """Allocations of a sum over the columns of a contiguous (rows, columns) matrix on a GPU.

    A matrix whose bytes 32 bits cannot count is summed in halves, and a 16-bit sum then meets in a
    buffer of its own.

    Source: aten/src/ATen/native/cuda/Reduce.cuh (``gpu_reduce_kernel``) and
    aten/src/ATen/TensorIterator.cpp (``can_use_32bit_indexing``, ``SplitUntil32Bit``).
    """

    rows: int
    columns: int
    element_bytes: int
    gpu: Gpu

    @property
    def total_bytes(self) -> int:
        """Bytes of the buffer that the halves' sums meet in; 0 where there are no halves."""
        halved = len(list(self._parts(self.rows))) > 1
        return _LEAST_ACCUMULATOR_BYTES * self.columns if halved and self.element_bytes == 2 else 0

    def launches(self) -> list[list[int]]:
        """Return the bytes of the blocks that each launch allocates, in order."""
        return [self._scratch(rows) for rows in self._parts(self.rows)]

    def _parts(self, rows: int) -> Iterator[int]:
        if rows > 1 and rows * self.columns * self.element_bytes > _MOST_BYTES:
            yield from self._parts(rows // 2)
            yield from self._parts(rows - rows // 2)
        else:
            yield rows

    def _scratch(self, rows: int) -> list[int]:
        return Reduction(
            shape=(rows, self.columns),
            strides=(self.columns, 1),
            reduced=(0,),
            accumulator_bytes=max(self.element_bytes, _LEAST_ACCUMULATOR_BYTES),
        ).scratch_bytes(self.gpu)


_Sums = tuple[int, list[list[int]]]
"""Scratch of one matrix's column sums: a buffer's bytes, and those of each launch's blocks."""


class CudaKernels(Kernels):
    """Writes the blocks that CUDA's kernels allocate for themselves on ``gpu``."""

    def __init__(self, writer: TraceWriter, gpu: Gpu) -> None:
        super().__init__(writer)
        self._gpu = gpu
        self._keeps_workspaces = are_kept()
        self._workspace_bytes = workspace_bytes(gpu.capability, gpu.workspace_config)
        self._threads: set[bool] = set()
        self._sums: dict[tuple[int, int, int], _Sums] = {}

    def matmul(self, k: int, n: int, operator: str, module: str = "") -> None:
        """Write the workspace: of the thread, the first time, or of this matmul alone."""
        if not self._keeps_workspaces:
            is_lt = operator.endswith("aten::addmm") and is_lt_matmul(k, n)
            size = LT_WORKSPACE_BYTES if is_lt else self._workspace_bytes
            if size:
                self._writer.free(self._writer.allocate(size, operator, "temporary", module))
            return
        of_autograd = self._writer.phase == "backward"
        if of_autograd not in self._threads:
            self._threads.add(of_autograd)
            self.kept_bytes += self._workspace_bytes
            if self._workspace_bytes:
                self._writer.allocate(self._workspace_bytes, operator, "temporary", module)

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write the staging buffer and the counters of sums that several blocks share."""
        total_bytes, launches = self._scratch_of(rows, columns, element_bytes)
        if not total_bytes and not launches:
            return
        allocate, free = self._writer.allocate, self._writer.free
        total = allocate(total_bytes, operator, "temporary", module) if total_bytes else None
        for sizes in launches:
            blocks = [allocate(size, operator, "temporary", module) for size in sizes]
            for block in reversed(blocks):
                free(block)
        free(total)

    def _scratch_of(self, rows: int, columns: int, element_bytes: int) -> _Sums:
        """Return the bytes of the halves' buffer and those of each launch's blocks, if it has any.

        Remembered: the layers of a deep network ask the same again and again.
        """
        key = rows, columns, element_bytes
        if key not in self._sums:
            sums = ColumnSums(
                rows=rows, columns=columns, element_bytes=element_bytes, gpu=self._gpu
            )
            self._sums[key] = sums.total_bytes, [sizes for sizes in sums.launches() if sizes]
        return self._sums[key]

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalization, if there is one."""
        if workload.norm == "batch":
            return CudaBatchNorm(self._writer, workload)
        if workload.norm == "layer":
            return CudaLayerNorm(self._writer, workload, self, self._gpu.multiprocessors)
        return None

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout, if there is one."""
        return CudaDropout(self._writer, DTYPE_BYTES[workload.dtype]) if workload.dropout else None

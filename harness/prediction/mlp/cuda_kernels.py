"""Allocations of CUDA's kernels: cuBLAS workspaces and scratch of reductions."""

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.workspaces import (
    LT_WORKSPACE_BYTES,
    are_kept,
    is_lt_product,
    workspace_bytes,
)
from harness.prediction.mlp.column_sums import ColumnSums
from harness.prediction.mlp.cuda_dropout import CudaDropout
from harness.prediction.mlp.cuda_norms import CudaBatchNorm, CudaLayerNorm
from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.norms import Norm
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.workload import Workload

_Sums = tuple[int, list[list[int]]]
"""Scratch of one matrix's column sums: a buffer's bytes, and those of each launch's blocks."""


class CudaKernels(Kernels):
    """Writes the blocks that CUDA's kernels allocate for themselves on ``gpu``."""

    def __init__(self, writer: TraceWriter, gpu: Gpu) -> None:
        self._writer = writer
        self._gpu = gpu
        self._keeps_workspaces = are_kept()
        self._workspace_bytes = workspace_bytes(gpu.capability, gpu.workspace_config)
        self._threads: set[bool] = set()
        self._sums: dict[tuple[int, int, int], _Sums] = {}
        self.kept_bytes = 0

    def matmul(self, k: int, n: int, operator: str, module: str = "") -> None:
        """Write the workspace: of the thread, the first time, or of this product alone."""
        if not self._keeps_workspaces:
            is_lt = operator.endswith("aten::addmm") and is_lt_product(k, n)
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

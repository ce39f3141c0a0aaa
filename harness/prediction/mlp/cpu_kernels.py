"""What the CPU's kernels allocate: the scratch of matmuls."""

from harness.prediction.mlp.autocast import AutocastLayers
from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.layers import Layers
from harness.prediction.mlp.matmul import Layout, Scratch
from harness.prediction.mlp.norms import BatchNorm, LayerNorm, Norm
from harness.prediction.mlp.stack import plain_layers
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.workload import Workload


class CpuKernels(Kernels):
    """Matmuls that allocate scratch memory, see ``harness.prediction.mlp.matmul``."""

    def __init__(self, writer: TraceWriter, scratch: Scratch | None) -> None:
        self._writer = writer
        self._scratch = scratch
        self.kept_bytes = 0

    def matmul(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, layout: Layout
    ) -> None:
        """Write the matmul's scratch, if any."""
        size = self._scratch(m, k, n, layout) if self._scratch is not None else 0
        if size:
            self._writer.free(self._writer.allocate(size, operator, "temporary", module))

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write nothing: each thread sums in registers."""

    def layers(self, workload: Workload) -> Layers:
        """Return the layers of ``workload`` as the CPU runs them."""
        if workload.autocast:
            return AutocastLayers(self._writer, workload, self)
        return plain_layers(self._writer, workload, self)

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalization, if there is one."""
        kinds: dict[str, type[BatchNorm | LayerNorm]] = {"batch": BatchNorm, "layer": LayerNorm}
        kind = kinds.get(workload.norm)
        return kind(self._writer, workload) if kind else None

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout, if there is one."""
        return Dropout(self._writer, DTYPE_BYTES[workload.dtype]) if workload.dropout else None

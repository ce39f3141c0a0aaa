"""The CPU's kernels allocate nothing but their results, as far as they are predicted."""

from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.norms import BatchNorm, LayerNorm, Norm
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.workload import Workload


class CpuKernels(Kernels):
    """Matmuls of float32 and float64 go to MKL, whose buffers are not PyTorch's."""

    def __init__(self, writer: TraceWriter) -> None:
        self._writer = writer
        self.kept_bytes = 0

    def matmul(self, k: int, n: int, operator: str, module: str = "") -> None:
        """Write nothing; see ``cpu_trace`` for 16-bit types."""

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write nothing: each thread sums in registers."""

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalization, if there is one."""
        kinds: dict[str, type[BatchNorm | LayerNorm]] = {"batch": BatchNorm, "layer": LayerNorm}
        kind = kinds.get(workload.norm)
        return kind(self._writer, workload) if kind else None

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout, if there is one."""
        return Dropout(self._writer, DTYPE_BYTES[workload.dtype]) if workload.dropout else None

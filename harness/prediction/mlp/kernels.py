"""Device-specific kernels: scratch memory, and kernels that consist of others."""

from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.norms import BatchNorm, LayerNorm, Norm
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.workload import Workload


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
        del k, n, operator, module

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write what summing the columns of a contiguous matrix allocates."""
        del rows, columns, element_bytes, operator, module

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalization of ``workload``'s hidden layers, if they have one."""
        kinds: dict[str, type[Norm]] = {"batch": BatchNorm, "layer": LayerNorm}
        kind = kinds.get(workload.norm)
        return kind(self._writer, workload) if kind else None

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout after ``workload``'s activations, if there is one."""
        return Dropout(self._writer, DTYPE_BYTES[workload.dtype]) if workload.dropout else None

"""Device-specific kernels: scratch memory, and kernels that consist of others."""

from typing import Protocol

from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.norms import Norm
from harness.schema.workload import Workload


class Kernels(Protocol):
    """Writes the blocks of a device's kernels; each is called after its result was allocated."""

    kept_bytes: int
    """What kernels allocated for good, so far."""

    def matmul(self, k: int, n: int, operator: str, module: str = "") -> None:
        """Write what a matmul (m, k) x (k, n) allocates."""

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write what summing the columns of a contiguous matrix allocates."""

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalization of ``workload``'s hidden layers, if they have one."""

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout after ``workload``'s activations, if there is one."""

"""What differs between devices below the dispatcher: scratch, and kernels made of other ones."""

from typing import TYPE_CHECKING, Protocol

from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.matmul import Layout
from harness.prediction.mlp.norms import Norm
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from harness.prediction.mlp.layers import Layers


class Kernels(Protocol):
    """Writes the blocks of a device's kernels; each is called after its result was allocated."""

    kept_bytes: int
    """What kernels allocated for good, so far."""

    def matmul(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, layout: Layout
    ) -> None:
        """Write what a matmul (m, k) x (k, n) of operands stored in ``layout`` allocates."""

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write what summing the columns of a contiguous matrix allocates."""

    def layers(self, workload: Workload) -> "Layers":
        """Return the layers of ``workload`` as this device runs them."""

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalization of ``workload``'s hidden layers, if they have one."""

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout after ``workload``'s activations, if there is one."""

"""What differs between devices below the dispatcher: scratch, and kernels made of other ones."""

from typing import Protocol

from harness.prediction.mlp.dropout import Dropout
from harness.prediction.mlp.formula import DTYPE_BYTES
from harness.prediction.mlp.matmul import Layout, Scratch
from harness.prediction.mlp.norms import BatchNorm, LayerNorm, Norm
from harness.prediction.mlp.trace_writer import Tape
from harness.schema.workload import Workload


class Kernels(Protocol):
    """Writes the blocks of a device's kernels; each is told after its result was taken."""

    kept_bytes: int
    """What kernels took to keep for good, so far."""

    def product(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, layout: Layout
    ) -> None:
        """Write what a product (m, k) x (k, n) of factors stored so takes."""

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write what summing the columns of a contiguous matrix takes."""

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalisation of ``workload``'s hidden layers, if they have one."""

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout after ``workload``'s activations, if there is one."""


class CpuKernels(Kernels):
    """Matmuls that allocate scratch memory, see ``harness.prediction.mlp.matmul``."""

    def __init__(self, tape: Tape, scratch: Scratch | None) -> None:
        self._tape = tape
        self._scratch = scratch
        self.kept_bytes = 0

    def product(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, layout: Layout
    ) -> None:
        """Write the product's scratch, if any."""
        size = self._scratch(m, k, n, layout) if self._scratch is not None else 0
        if size:
            self._tape.give(self._tape.take(size, operator, "temporary", module))

    def column_sums(
        self, rows: int, columns: int, element_bytes: int, operator: str, module: str = ""
    ) -> None:
        """Write nothing: each thread sums in registers."""

    def norm(self, workload: Workload) -> Norm | None:
        """Return the normalisation, if there is one."""
        kinds: dict[str, type[BatchNorm | LayerNorm]] = {"batch": BatchNorm, "layer": LayerNorm}
        kind = kinds.get(workload.norm)
        return kind(self._tape, workload) if kind else None

    def dropout(self, workload: Workload) -> Dropout | None:
        """Return the dropout, if there is one."""
        return Dropout(self._tape, DTYPE_BYTES[workload.dtype]) if workload.dropout else None

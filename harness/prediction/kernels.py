"""What kernels take below the dispatcher: between an operator's result and its end."""

from harness.prediction.matmul import Layout, Scratch
from harness.prediction.tape import Tape


class Kernels:
    """Writes the blocks of a device's kernels; each is told after its result was taken.

    These take none.
    """

    kept_bytes = 0
    """What kernels took to keep for good, so far."""

    def product(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, layout: Layout
    ) -> None:
        """Write what a product (m, k) x (k, n) of factors stored so takes."""

    def column_sums(self, rows: int, columns: int, operator: str, module: str = "") -> None:
        """Write what summing the columns of a contiguous matrix takes."""


class CpuKernels(Kernels):
    """Products that take scratch of the matrix library, as ``harness.prediction.matmul`` says."""

    def __init__(self, tape: Tape, scratch: Scratch | None) -> None:
        self._tape = tape
        self._scratch = scratch

    def product(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, layout: Layout
    ) -> None:
        """Write the product's scratch, if any."""
        size = self._scratch(m, k, n, layout) if self._scratch is not None else 0
        if size:
            self._tape.give(self._tape.take(size, operator, "temporary", module))

"""What CUDA's kernels take: cuBLAS workspaces, which stay, and scratch of reductions."""

from harness.prediction.cuda.gpus import Gpu
from harness.prediction.cuda.reduction import column_sums
from harness.prediction.cuda.workspaces import workspace_bytes
from harness.prediction.kernels import Kernels
from harness.prediction.tape import Tape


class CudaKernels(Kernels):
    """Writes the kernels' own blocks on ``tape`` as they come about on ``gpu``.

    ``accumulator_bytes``: of an element of the type that sums are formed in.
    """

    def __init__(self, tape: Tape, gpu: Gpu, accumulator_bytes: int) -> None:
        self._tape = tape
        self._gpu = gpu
        self._accumulator_bytes = accumulator_bytes
        self._threads: set[bool] = set()

    def product(
        self, m: int, k: int, n: int, operator: str, module: str = "", *, dots: bool
    ) -> None:
        """Write the workspace of the thread that multiplies, the first time."""
        del m, k, n, dots
        of_autograd = self._tape.phase == "backward"
        if of_autograd not in self._threads:
            self._threads.add(of_autograd)
            size = workspace_bytes(self._gpu.capability)
            self.kept_bytes += size
            self._tape.take(size, operator, "temporary", module)

    def column_sums(self, rows: int, columns: int, operator: str, module: str = "") -> None:
        """Write the staging buffer and the counters of a sum that several blocks share."""
        scratch = column_sums(
            rows,
            columns,
            self._accumulator_bytes,
            multiprocessors=self._gpu.multiprocessors,
            threads_per_multiprocessor=self._gpu.threads_per_multiprocessor,
        )
        blocks = [self._tape.take(size, operator, "temporary", module) for size in scratch if size]
        for block in reversed(blocks):
            self._tape.give(block)

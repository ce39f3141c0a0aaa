"""Scratch of the sums over the rows of a matrix, which gradients of biases are, on a GPU.

A matrix whose bytes 32 bits cannot count is summed in halves, and a 16-bit sum then meets in a
buffer of its own.

Source: aten/src/ATen/native/cuda/Reduce.cuh (``gpu_reduce_kernel``) and
aten/src/ATen/TensorIterator.cpp (``can_use_32bit_indexing``, ``SplitUntil32Bit``).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction

_MOST_BYTES = 2**31 - 1
_LEAST_ACCUMULATOR_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class ColumnSums:
    """Allocations of a sum over the columns of a contiguous (rows, columns) matrix on a GPU."""

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

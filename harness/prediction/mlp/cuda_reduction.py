"""Scratch of a reduction that several blocks of threads share, in global memory.

Where each thread would have many values to add up and the grid does not fill the GPU, the
rows are divided among blocks; their partial sums meet in a staging buffer, and a counter per
column of the grid counts which block is the last. A matrix whose bytes 32 bits cannot count is
summed in halves, and a 16-bit sum then meets in a buffer of its own.

Source: aten/src/ATen/native/cuda/Reduce.cuh (``setReduceConfig``, ``gpu_reduce_kernel``) and
aten/src/ATen/TensorIterator.cpp (``can_use_32bit_indexing``, ``SplitUntil32Bit``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_MOST_THREADS = 512
_WARP = 32
_LEAST_VALUES = 16
_MOST_VALUES = 256
_COUNTER_BYTES = 4
_MOST_BYTES = 2**31 - 1
_ACCUMULATOR_BYTES = 4


class Scratch(NamedTuple):
    """Bytes of the two scratch blocks of one kernel launch, in order; 0 where there is none."""

    staging_bytes: int
    counters_bytes: int


_NONE = Scratch(0, 0)


@dataclass(frozen=True, kw_only=True)
class ColumnSums:
    """What summing the columns of a contiguous (rows, columns) matrix allocates on a GPU."""

    rows: int
    columns: int
    element_bytes: int
    multiprocessors: int
    threads_per_multiprocessor: int

    @property
    def total_bytes(self) -> int:
        """Bytes of the buffer that the halves' sums meet in; 0 where there are no halves."""
        halved = len(list(self._parts(self.rows))) > 1
        return _ACCUMULATOR_BYTES * self.columns if halved and self.element_bytes == 2 else 0

    def launches(self) -> list[Scratch]:
        """Return the scratch of each launch, in order."""
        return [self._scratch(rows) for rows in self._parts(self.rows)]

    def _parts(self, rows: int) -> Iterator[int]:
        if rows > 1 and rows * self.columns * self.element_bytes > _MOST_BYTES:
            yield from self._parts(rows // 2)
            yield from self._parts(rows - rows // 2)
        else:
            yield rows

    def _scratch(self, rows: int) -> Scratch:
        if rows == 1:
            return _NONE
        by_row = self.columns == 1  # the only dimension left is the one that is summed
        vector = 1
        if by_row:
            width, height = rows // 4 if rows >= 128 else rows, 1
        else:
            while vector < 4 and self.columns % (2 * vector) == 0:
                vector *= 2
            width, height = self.columns // vector, rows
        block = _block(width, height, _MOST_THREADS // vector)
        grid = 1 if by_row else _up(width, block.width)
        values = _up(rows, block.width if by_row else 1)
        if values < min(block.height * 16, _MOST_VALUES):
            return _NONE  # every warp has columns of its own
        blocks = self._blocks(grid, _up(values, block.height), block.width * block.height)
        if blocks == 1:
            return _NONE
        accumulator = max(self.element_bytes, _ACCUMULATOR_BYTES)
        staging = accumulator * self.columns * blocks * (1 if by_row else block.width * vector)
        return Scratch(staging, _COUNTER_BYTES * grid)

    def _blocks(self, grid: int, values: int, threads: int) -> int:
        """Return how many blocks share a column, given the values that a thread would have."""
        target = self.multiprocessors * (self.threads_per_multiprocessor // threads)
        if values < _MOST_VALUES or grid > target:
            return 1
        return max(min(_up(target, grid), _up(values, _LEAST_VALUES)), _up(values, _MOST_VALUES))


class _Block(NamedTuple):
    width: int
    height: int


def _block(width: int, height: int, most: int) -> _Block:
    """Return the block of threads for these extents: ``set_block_dimension``."""
    wide, high = _power(min(width, most)), _power(min(height, most))
    block_height = min(high, most // min(wide, _WARP))
    return _Block(min(wide, most // block_height), block_height)


def _power(number: int) -> int:
    """Return the largest power of two up to ``number``, at least 1."""
    return 1 << max(number, 1).bit_length() - 1


def _up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)

"""Scratch of a reduction that several blocks of threads share, in global memory.

Where each thread would have many values to add up and the grid does not fill the card, the
rows are divided among blocks; their partial sums meet in a staging buffer, and a counter per
column of the grid tells which block is the last.

Source: aten/src/ATen/native/cuda/Reduce.cuh (``setReduceConfig``, ``gpu_reduce_kernel``).
"""

from typing import NamedTuple

_MOST_THREADS = 512
_WARP = 32
_LEAST_VALUES = 16
_MOST_VALUES = 256
_COUNTER_BYTES = 4


class Scratch(NamedTuple):
    """The two blocks, in the order in which they are taken; both 0 where there are none."""

    staging_bytes: int
    counters_bytes: int


NONE = Scratch(0, 0)


def column_sums(
    rows: int,
    columns: int,
    accumulator_bytes: int,
    *,
    multiprocessors: int,
    threads_per_multiprocessor: int,
) -> Scratch:
    """Return the scratch of summing each column of a contiguous (rows, columns) matrix.

    ``accumulator_bytes``: of the type that is summed in (float32 for the 16-bit types).
    Matrices beyond 2^31 elements are summed in parts and not followed here.
    """
    if rows == 1:
        return NONE
    by_row = columns == 1  # the only remaining dimension is the one that is summed
    vector = 1
    if by_row:
        width, height = rows // 4 if rows >= 128 else rows, 1
    else:
        while vector < 4 and columns % (2 * vector) == 0:
            vector *= 2
        width, height = columns // vector, rows
    block_width, block_height = _block(width, height, _MOST_THREADS // vector)
    across = block_width if by_row else 1
    outputs = 1 if by_row else block_width
    values = _up(rows, across)
    if values < min(block_height * 16, _MOST_VALUES):
        return NONE  # each warp has outputs of its own
    across *= block_height
    values = _up(rows, across)
    grid = _up(columns // vector, outputs)
    target = multiprocessors * (threads_per_multiprocessor // (block_width * block_height))
    if values < _MOST_VALUES or grid > target:
        return NONE
    blocks = max(min(_up(target, grid), _up(values, _LEAST_VALUES)), _up(values, _MOST_VALUES))
    if blocks <= 1:
        return NONE
    staging = accumulator_bytes * columns * blocks
    if not by_row:
        staging *= block_width * vector
    return Scratch(staging, _COUNTER_BYTES * grid)


def _block(width: int, height: int, most: int) -> tuple[int, int]:
    """Return the block of threads for these extents: ``set_block_dimension``."""
    wide, high = _power(min(width, most)), _power(min(height, most))
    block_width = min(wide, _WARP)
    block_height = min(high, most // block_width)
    return min(wide, most // block_height), block_height


def _power(number: int) -> int:
    """Return the largest power of two up to ``number``, at least 1."""
    return 1 << max(number, 1).bit_length() - 1


def _up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)

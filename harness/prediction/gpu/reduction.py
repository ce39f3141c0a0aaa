"""Scratch of a reduction on a GPU, for any layout of its input.

Where each thread would have many values to combine and the grid does not fill the GPU, the
values of an output are divided among blocks of threads. Their partial results meet in a staging
buffer in global memory, and a counter for each column of the grid finds the last block.

Source: aten/src/ATen/native/cuda/Reduce.cuh (``setReduceConfig``); aten/src/ATen/TensorIterator.cpp
(``reorder_dimensions``, ``coalesce_dimensions``).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.prediction.gpu.catalogue import Gpu

_MOST_THREADS = 512
_WARP = 32
_VECTOR = 4
_LEAST_VALUES = 16
_MOST_VALUES = 256
_COUNTER_BYTES = 4


class _Dimension(NamedTuple):
    size: int
    stride: int
    output_stride: int
    is_reduced: bool


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """A reduction of a strided tensor: which dimensions, and what each value is summed in."""

    shape: Sequence[int]
    strides: Sequence[int]
    reduced: Collection[int]
    accumulator_bytes: int

    def scratch_bytes(self, gpu: Gpu) -> list[int]:
        """Return the staging buffer and the counters on ``gpu``; empty where there are none."""
        dimensions = self._dimensions()
        reduced = [d for d in dimensions if d.is_reduced]
        kept = [d for d in dimensions if not d.is_reduced]
        if not reduced:
            return []
        outputs = math.prod(d.size for d in kept)
        each = math.prod(d.size for d in reduced)
        along = not kept or reduced[0].stride < kept[0].stride
        first, second = (reduced[0], outputs) if along else (kept[0], each)
        width, vector = first.size, 1
        if first.stride == 1 and along and width >= 128 and len(dimensions) == 1:
            width //= _VECTOR
        elif first.stride == 1 and not along:
            vector = _output_vector(first, dimensions)
            width //= vector
        width, height = _block(width, second, _MOST_THREADS // vector)
        values = ceil_div(each, width if along else 1)
        if values < min(height * 16, _MOST_VALUES):
            return []  # every warp has outputs of its own
        grid = ceil_div(outputs // vector, 1 if along else width)
        parts = _parts(gpu, grid, ceil_div(values, height), width * height)
        if parts == 1:
            return []
        lanes = 1 if along else width * vector
        return [self.accumulator_bytes * outputs * parts * lanes, _COUNTER_BYTES * grid]

    def _dimensions(self) -> list[_Dimension]:
        """Return the dimensions, reduced ones first, neighbours joined where memory allows."""
        output_strides, count = {}, 1
        for place in reversed(range(len(self.shape))):
            if place not in self.reduced:
                output_strides[place] = count
                count *= self.shape[place]
        dimensions = [
            _Dimension(size, stride, output_strides.get(place, 0), place in self.reduced)
            for place, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True))
            if size != 1
        ]
        dimensions.sort(key=lambda d: (not d.is_reduced, d.stride))
        joined: list[_Dimension] = []
        for one in dimensions:
            last = joined[-1] if joined else None
            if last is not None and _follows(last, one):
                joined[-1] = last._replace(size=last.size * one.size)
            else:
                joined.append(one)
        return joined


def _follows(last: _Dimension, one: _Dimension) -> bool:
    return (
        last.is_reduced == one.is_reduced
        and last.size * last.stride == one.stride
        and (one.is_reduced or last.size * last.output_stride == one.output_stride)
    )


def _output_vector(first: _Dimension, dimensions: Sequence[_Dimension]) -> int:
    """Return how many outputs a thread computes together: ``get_output_vec_size``."""
    vector = _VECTOR
    while vector > 1 and (
        first.size % vector or any(d.stride % vector for d in dimensions if d is not first)
    ):
        vector //= 2
    return vector


def _block(width: int, height: int, most: int) -> tuple[int, int]:
    """Return the width and height of a block of threads."""
    wide, high = power_within(min(width, most)), power_within(min(height, most))
    block_height = min(high, most // min(wide, _WARP))
    return min(wide, most // block_height), block_height


def _parts(gpu: Gpu, grid: int, values: int, threads: int) -> int:
    """Return how many blocks share an output, given the values that a thread would have."""
    target = gpu.multiprocessors * (gpu.threads_per_multiprocessor // threads)
    if values < _MOST_VALUES or grid > target:
        return 1
    return max(
        min(ceil_div(target, grid), ceil_div(values, _LEAST_VALUES)), ceil_div(values, _MOST_VALUES)
    )


def power_within(number: int) -> int:
    """Return the largest power of two up to ``number``, at least 1."""
    return 1 << max(number, 1).bit_length() - 1


def ceil_div(dividend: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-dividend // divisor)

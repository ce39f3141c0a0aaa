"""What CUDA's kernels for embeddings and tensors as indices allocate, in order.

Where several gradients may meet in one place, ``index_put_`` sorts the places with CUB. Its
temporary storage follows from the number of places, the bits of the largest one, and how many
places a block of threads sorts on that capability.

Source: aten/src/ATen/native/TensorAdvancedIndexing.cpp (``AdvancedIndex``), cuda/Indexing.cu
(``index_put_with_sort_kernel``), Embedding.cu,
EmbeddingBackwardKernel.cu; cub/device/dispatch/dispatch_radix_sort.cuh. The numbers of
places were seen under the dry run on capabilities 7.5, 8.0, 8.9, 9.0, 10.0 and 12.0.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.module.kernel_timeline import Timeline, around

_PLACE_BYTES = 8
_IN_ONE_BLOCK = 2304
"""Places that one block of threads sorts without temporary storage."""
_UNSORTED = 3072
"""Indices that an embedding's gradient takes as they come."""
_ROWS_OF_A_SUM = 10
_OFTEN = 30
_SCAN_BYTES = 1279
_HALF = 2
_DIGIT_BITS = 8
_DIGITS = 256
_ALIGNED = 256


def index(indices: Sequence[Tensor | None]) -> Timeline | None:
    """Return the copies of indices that were broadcast to differing layouts, around the result."""
    copies = _copies(_broadcast(indices))
    return around(1, across=copies) if copies else None


def index_put(
    gpu: Gpu, given: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool
) -> Timeline | None:
    """Return the places, their sorting and the copy of the values; None without adding up."""
    named = [one for one in indices if one is not None]
    if not accumulate or len(named) != len(indices) or any(_is_mask(one) for one in named):
        return None
    places = _broadcast(indices)
    timeline = Timeline()
    copies = timeline.take(*_copies(places))
    count = places[0].numel() * _PLACE_BYTES
    linear: list[int] = []
    for _ in places:  # each is wrapped, multiplied and added to those before
        wrapped, linear = linear + timeline.take(count), timeline.take(count)
        timeline.free(wrapped)
    if not values.is_contiguous() or values.shape != _target(given, places):
        shape = _target(given, places)
        linear += timeline.take(math.prod(shape) * values.element_size())
    linear += timeline.take(count, count, count)
    largest = math.prod(given.shape[: len(places)]) - 1
    timeline.pass_by(sort_bytes(gpu, places[0].numel(), largest))
    timeline.free(linear)
    timeline.free(copies)
    return timeline


def sort_bytes(gpu: Gpu, count: int, largest: int) -> int:
    """Return CUB's temporary storage for sorting places, the ``largest`` of them as a number."""
    if count <= _IN_ONE_BLOCK:
        return 1
    passes = -(-max(1, largest.bit_length()) // _DIGIT_BITS)
    blocks = -(-count // _places_of_a_block(gpu))
    units = 4 * blocks + 8 * passes + 2
    if passes > 1:
        units += 2 * -(-count * _PLACE_BYTES // _ALIGNED)
    return units * _ALIGNED - 1


def is_sorted(indices: Tensor, *, by_frequency: bool) -> bool:
    """Return whether the gradient of an embedding sorts its indices."""
    return by_frequency or indices.numel() > _UNSORTED


def embedding_backward(
    gpu: Gpu, gradient: Tensor, indices: Tensor, rows: int, *, by_frequency: bool
) -> Timeline:
    """Return the sort of many indices, and the partial sums of each run of equal ones.

    Of few rows that each occur often, the sums need a number each instead of a row.
    """
    count, element = indices.numel(), indices.element_size()
    copies = [*_copy(gradient), *_copy(indices)]
    if not is_sorted(indices, by_frequency=by_frequency):
        return around(1, across=copies)
    width, runs = gradient.shape[-1], min(rows, count)
    partial = count // _ROWS_OF_A_SUM + runs
    order = count * element
    are_few = rows * _OFTEN <= count and rows < 4 * gpu.multiprocessors
    sums = [partial * width * max(gradient.element_size(), 4)]
    if are_few:
        sums = [partial * element]
        if gradient.element_size() == _HALF:
            sums.append(rows * width * 4)
    timeline = Timeline()
    blocks = timeline.take(*copies, order, order)
    timeline.pass_by(order, sort_bytes(gpu, count, rows - 1))
    if by_frequency:
        blocks += timeline.take(order)
        timeline.pass_by(_SCAN_BYTES)
        timeline.pass_by(_SCAN_BYTES)
    timeline.results(0)
    blocks += timeline.take(order, element)
    timeline.pass_by(order, _SCAN_BYTES)
    blocks += timeline.take(element * runs, element * runs)
    timeline.pass_by(_SCAN_BYTES)
    timeline.pass_by(element, element * partial, *sums)
    timeline.free(blocks)
    return timeline


def _places_of_a_block(gpu: Gpu) -> int:
    if gpu.capability >= (9, 0):
        return 4608
    return 3840 if gpu.capability >= (8, 0) else 2816


def _is_mask(one: Tensor) -> bool:
    return one.dtype in (torch.bool, torch.uint8)


def _broadcast(indices: Sequence[Tensor | None]) -> list[Tensor]:
    named = [one for one in indices if one is not None and not _is_mask(one)]
    return list(torch.broadcast_tensors(*named)) if named else []  # type: ignore[no-untyped-call]


def _copies(places: Sequence[Tensor]) -> list[int]:
    """Return the copies of several indices whose strides differ."""
    if len({one.stride() for one in places}) < 2:
        return []
    return [one.numel() * one.element_size() for one in places if not one.is_contiguous()]


def _copy(tensor: Tensor) -> list[int]:
    return [] if tensor.is_contiguous() else [tensor.numel() * tensor.element_size()]


def _target(given: Tensor, places: Sequence[Tensor]) -> tuple[int, ...]:
    return (*places[0].shape, *given.shape[len(places) :])

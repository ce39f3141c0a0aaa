"""What CUDA's normalization kernels allocate, in order.

Source: aten/src/ATen/native/cuda/layer_norm_kernel.cu, group_norm_kernel.cu, Normalization.cu
(``batch_norm_use_channels_last_kernels``), Normalization.cuh.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction
from harness.prediction.mlp.cuda_norms import batch_norm_grid, in_two_steps, two_step_parts
from harness.prediction.module.kernel_timeline import Timeline, around


def layer_norm(args: Sequence[Any]) -> Timeline:
    """Return the copy of an input that is not contiguous, around the results."""
    return around(3, across=_copy(args[0]))


def layer_norm_backward(gpu: Gpu, args: Sequence[Any]) -> Timeline:
    """Return the gradients and the copies; of many short rows the sums of the parameters' too."""
    gradient, given, width = args[0], args[1], math.prod(args[2])
    rows = given.numel() // width
    wanted = args[7] if len(args) > 7 else (True, True, True)
    size = width * given.element_size()
    timeline = Timeline()
    copy = timeline.take(*_copy(given))
    timeline.results(*([0] if wanted[0] else []))
    if not in_two_steps(rows, width, gpu.multiprocessors) or not (wanted[1] or wanted[2]):
        timeline.results(*(place for place in (1, 2) if wanted[place]))
        timeline.pass_by(*_copy(gradient))
        timeline.free(copy)
        return timeline
    replaced = timeline.take(size, size)
    copy += timeline.take(*_copy(gradient))
    parts = two_step_parts(rows, width)
    staged = timeline.take(parts * size, parts * size)
    sums = Reduction(
        shape=(parts, width),
        strides=(width, 1),
        reduced=[0],
        accumulator_bytes=max(given.element_size(), 4),
    ).scratch_bytes(gpu)
    for place, block in zip((1, 2), replaced, strict=True):
        timeline.results(place)
        timeline.pass_by(*sums)
        timeline.free([block])
    timeline.free(staged)
    timeline.free(copy)
    return timeline


def group_norm(args: Sequence[Any]) -> Timeline:
    """Return the results, then the factors of input and shift of each channel of an example."""
    given, count, channels = args[0], args[3], args[4]
    size = count * channels * max(given.element_size(), 4)
    return around(3, after=[[*_copy(given), size, size]])


def group_norm_backward(args: Sequence[Any]) -> Timeline:
    """Return the gradients, two sums of each channel and three factors of the input's gradient."""
    gradient, given, weight = args[0], args[1], args[4]
    count, channels, area, groups = args[5:9]
    element = max(given.element_size(), 4)
    size = count * channels * element
    timeline = Timeline()
    sums = timeline.take(*_copy(gradient), *_copy(given))
    timeline.results(0, 1, 2)
    sums += timeline.take(size, size)
    if args[9][0] and area > 1:
        factors = timeline.take(count * groups * element, count * groups * element)
        of_weight = timeline.take(size if weight is not None else 0)
        timeline.free(factors)
        timeline.free(of_weight)
    timeline.free(sums)
    return timeline


def batch_norm(args: Sequence[Any]) -> Timeline:
    """Return the results and, in training, the partial statistics of channels that lie last."""
    given, trains = args[0], args[5]
    staged = _staged(given, 4) if trains and _channels_last(given) else []
    return around(3, after=[staged])


def batch_norm_backward(args: Sequence[Any]) -> Timeline | None:
    """Return the sums and gradients where channels lie last; None where a single kernel runs."""
    gradient, given, wanted = args[0], args[1], args[9]
    trains = args[7]
    if not (trains and wanted[0] and _channels_last(gradient) and _channels_last(given)):
        return None
    size = given.shape[1] * max(given.element_size(), 4)
    timeline = Timeline()
    sums = timeline.take(size, size)
    timeline.results(*(place for place in (1, 2) if wanted[place]))
    timeline.pass_by(*_staged(given, 2))
    timeline.results(0)
    timeline.free(sums)
    return timeline


def _channels_last(tensor: Tensor) -> bool:
    """Return whether channels are neighbours in memory."""
    if tensor.is_contiguous():
        return tensor.stride(1) == 1
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
    return last is not None and tensor.is_contiguous(memory_format=last)


def _staged(given: Tensor, values: int) -> list[int]:
    channels = given.shape[1]
    grid = batch_norm_grid(given.numel() // channels, channels)
    if grid.rows == 1:
        return []
    return [values * channels * grid.rows * max(given.element_size(), 4), 4 * grid.units]


def _copy(tensor: Tensor) -> list[int]:
    return [] if tensor.is_contiguous() else [tensor.numel() * tensor.element_size()]

"""Predicts the workspaces of cuDNN's convolutions on a machine without cuDNN.

Tensor cores need the channels-last layout, which PyTorch's tensors do not have by default. To use
tensor cores, cuDNN copies the inputs into a workspace, with channels padded to 16 bytes. If the
kernel cannot write to the output tensor, the workspace also contains a copy of the output. If
several multiprocessors each sum a share of a weight gradient, each share has its own copy of the
gradient. The constants of this module approximate cuDNN's unpublished heuristics.

Source: workspace sizes that cuDNN 9.26 reported in dry runs of 10,972 convolutions on capability
    8.0. The 10,972 convolutions are random, or from networks that are not in
    ``results/cuda-dry-run/models.md``. Of the workspaces of 923 other convolutions, 69% (float32)
    and 76% (float16) have an error of at most 10%. The rule for 3-D convolutions was added after
    wrong predictions for R3D-18 and MC3-18, but was fitted to other 3-D convolutions.
"""

import math
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.prediction.gpu.catalogue import Gpu

_ROW_BYTES = 16
"""Padding unit of a copied row, in bytes; each workspace has one more unit for alignment."""
_SHORT_SUM = {4: 123, 2: 63}
"""Largest number of products per output element for which cuDNN copies nothing, by element size."""
_FEW_PRODUCTS = 5_000_000
"""Number of multiplications below which a gradient kernel copies nothing."""
_FEW_CHANNELS, _SMALL_WEIGHT = 10, 9
"""Largest numbers of channels and of weight positions for which float32 gradients copy nothing."""
_MOSTLY_CORES = {(8, 0), (9, 0), (10, 0)}
"""Compute capabilities with far higher throughput in TF32 than in float32."""
_LIGHT_BYTES = 96 << 10
"""Below this float32 weight size, gradients copy nothing, except on ``_MOSTLY_CORES``."""
_TILE = 128
"""Height and width of the part of a weight gradient that one multiprocessor computes."""
_BUSY = 0.9
"""Minimum fraction of the multiprocessors that have work."""
_LEAST_SHARE = 2048
"""Minimum number of output positions that are summed in one share of a weight gradient."""


def convolution_workspaces(gpu: Gpu, name: str, args: Sequence[Any], result: Any) -> list[int]:
    """Return the workspace in bytes for each result of a convolution or of its gradient.

    Each workspace is allocated after its result, and is freed before the next result is allocated.
    """
    if name == "aten::convolution":
        (given, weight), output = args[:2], result
        passes: list[_Pass] = [_forward]
        is_turned, groups = args[6], args[8]
    elif name == "aten::convolution_backward":
        output, given, weight = args[:3]
        is_turned, groups, wanted = args[7], args[9], args[10]
        passes = [one for one, is_wanted in zip(_GRADIENTS, wanted, strict=False) if is_wanted]
    else:
        return []
    if not _copies(gpu, given, groups):
        return []
    if is_turned:
        given, output = output, given
        passes = [_TURNED.get(one, one) for one in passes]
    shapes = given.shape, weight.shape, output.shape
    convolution = _described(*shapes, groups, given.element_size())
    sizes = [one(convolution, gpu) for one in passes]
    return [size and size + _ROW_BYTES for size in sizes]


def _copies(gpu: Gpu, given: Tensor, groups: int) -> bool:
    """Return whether the convolution runs on tensor cores, with copies in another layout."""
    flags: Any = torch.backends.cudnn
    if not flags.enabled or not given.numel() or groups == given.shape[1] > 1:
        return False
    if given.dtype == torch.float32:
        conv = getattr(flags, "conv", None)  # PyTorch 2.9 and newer
        allowed = flags.allow_tf32 if conv is None else conv.fp32_precision == "tf32"
        return gpu.capability >= (8, 0) and bool(allowed)
    has_rows = groups == 1 and _has_rows(given)
    return gpu.capability >= (7, 0) and given.element_size() == 2 and not has_rows


def _has_rows(given: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(given.dim())
    return wanted is not None and given.is_contiguous(memory_format=wanted)


class _Convolution(NamedTuple):
    """Sizes of a convolution; a transposed convolution is described as a convolution's gradient.

    All sizes in bytes include the padding of the copies.
    """

    read_bytes: int
    """Bytes of the input and weight copies that a forward pass reads."""
    given_bytes: int
    weight_bytes: int
    output_bytes: int
    element_bytes: int
    channels: int
    filters: int
    summed: int
    """Number of products that are summed for one output element."""
    extent: int
    """Number of spatial positions of the weight."""
    positions: int
    """Number of spatial output positions in all examples together."""
    writes_in_place: bool
    is_volume: bool


def _described(
    given: Sequence[int], weight: Sequence[int], output: Sequence[int], groups: int, element: int
) -> _Convolution:
    multiple = _ROW_BYTES // element
    rows, columns, channels, filters = (
        ceil_div(size, multiple) * multiple for size in (*weight[:2], given[1], output[1])
    )
    extent, positions = math.prod(weight[2:]), math.prod(output[2:]) * output[0]
    given_bytes = given[0] * channels * math.prod(given[2:]) * element
    weight_bytes = rows * columns * extent * element
    is_padded = (channels, filters) != (given[1], output[1])
    has_rows = element == 2 and extent == 1 and not is_padded
    return _Convolution(
        read_bytes=given_bytes + (0 if has_rows else weight_bytes),
        given_bytes=given_bytes,
        weight_bytes=weight_bytes,
        output_bytes=filters * positions * element,
        element_bytes=element,
        channels=given[1],
        filters=output[1],
        summed=given[1] // groups * extent,
        extent=extent,
        positions=positions,
        writes_in_place=element == 4 and groups == 1 and filters == output[1],
        is_volume=len(given) == 5,
    )


def _forward(one: _Convolution, _: Gpu) -> int:
    if one.summed <= _SHORT_SUM[one.element_bytes] and not one.is_volume:
        return 0
    return one.read_bytes + (0 if one.writes_in_place else one.output_bytes)


def _needs_copies(one: _Convolution, gpu: Gpu) -> bool:
    """Return whether a gradient kernel copies its inputs."""
    if one.positions * one.filters * one.summed < _FEW_PRODUCTS:
        return False
    if one.element_bytes == 2:
        return True
    small = one.channels <= _FEW_CHANNELS and one.extent <= _SMALL_WEIGHT
    light = gpu.capability not in _MOSTLY_CORES and one.weight_bytes < _LIGHT_BYTES
    return not small and not light


def _given_gradient(one: _Convolution, gpu: Gpu) -> int:
    return one.read_bytes + one.output_bytes if _needs_copies(one, gpu) else 0


def _weight_gradient(one: _Convolution, gpu: Gpu) -> int:
    """For a weight gradient, return the bytes of the copies of input, output and weight."""
    if not one.is_volume and not _needs_copies(one, gpu):
        return 0
    tiles = ceil_div(one.filters, _TILE) * ceil_div(one.summed, _TILE)
    most = one.positions // _LEAST_SHARE
    is_in_place = one.extent == 1 and most < 2
    weights = 0 if is_in_place else 1 + min(_shares(tiles, gpu.multiprocessors), most)
    return one.given_bytes + one.output_bytes + weights * one.weight_bytes


def _shares(tiles: int, multiprocessors: int) -> int:
    """Return the smallest number of shares of a weight gradient that keeps a GPU busy."""
    return next(
        shares
        for shares in count(1)
        if tiles * shares >= _BUSY * multiprocessors * ceil_div(tiles * shares, multiprocessors)
    )


_Pass = Callable[[_Convolution, Gpu], int]
_GRADIENTS: tuple[_Pass, ...] = (_given_gradient, _weight_gradient)
_TURNED: dict[_Pass, _Pass] = {_forward: _given_gradient, _given_gradient: _forward}


def ceil_div(dividend: int, divisor: int) -> int:
    """Return the quotient, rounded up."""
    return -(-dividend // divisor)

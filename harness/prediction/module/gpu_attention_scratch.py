"""What the fused attention kernels allocate next to their results.

Source: aten/src/ATen/native/transformers/cuda/attention.cu, attention_backward.cu,
flash_attn/flash_api.cpp (``num_splits_heuristic``, ``mha_bwd``),
mem_eff_attention/kernel_backward.h (``workspace_size``).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.module.kernel_timeline import Timeline, around
from harness.prediction.torch_rules import SMALL_BLOCKS, rule_of

_FLASH_ROWS = 64
_FLASH_ROUND = 128
_MOST_SPLITS = 128
_PHILOX_BYTES = 16
_LOCK_BYTES = 16
_IN_REGISTERS = 128
_HALVES = (torch.float16, torch.bfloat16)


def flash_forward(gpu: Gpu, args: Sequence[Any]) -> Timeline:
    """Return the partial outputs where few blocks share out long keys among themselves."""
    query, key, _, dropout = args[:4]
    batch, heads, rows, width = query.shape
    if dropout:
        timeline = Timeline()
        timeline.results(0, 1)
        replaced = timeline.take(_PHILOX_BYTES)
        timeline.results(7, 6)  # the random state is the last one
        timeline.free(replaced)
        return timeline
    splits = _flash_splits(gpu, batch * heads, rows, key.shape[2], width)
    if splits == 1:
        return Timeline()
    lines = 4 * splits * batch * heads * rows
    timeline = Timeline()
    timeline.results(0, 1)
    partial = timeline.take(lines, lines * _flash_width(width))
    timeline.results(6, 7)
    timeline.free(partial)
    return timeline


def flash_backward(args: Sequence[Any]) -> Timeline:
    """Return the copies, each row's sum and the float32 gradient of the query."""
    gradient, query, key, value, output = args[:5]
    batch, heads, rows, width = query.shape
    padded = _up(rows, _FLASH_ROUND) * _FLASH_ROUND
    sums = 4 * batch * heads * padded
    expanded = [_bytes(t) // key.shape[1] * heads for t in (key, value) if key.shape[1] != heads]
    return around(
        3,
        across=[_bytes(t) for t in (gradient, output) if not _is_by_rows(t)],
        after=[[sums, sums * _flash_width(width), *expanded]],
    )


def efficient_forward(args: Sequence[Any]) -> Timeline:
    """Return what stands for the random state, the results and, in float32, a wide output.

    A 16-bit output of more than 128 columns does not stay in registers.
    """
    query, _, value = args[:3]
    timeline = Timeline()
    timeline.results(2, 3, 0, 1)
    if query.dtype in _HALVES and value.shape[-1] > _IN_REGISTERS:
        timeline.pass_by(4 * query.numel() // query.shape[-1] * value.shape[-1])
    return timeline


def efficient_backward(gpu: Gpu, args: Sequence[Any]) -> Timeline:
    """Return the copy, each row's sum and the workspace of the kernel.

    In float32 the sums are those of a product that is formed beforehand.
    """
    gradient, query, key = args[:3]
    batch, heads, rows, _ = query.shape
    sums = 4 * batch * heads * rows
    timeline = Timeline()
    copy = timeline.take(0 if _is_by_rows(gradient) else _bytes(gradient))
    timeline.results(0, 1, 2, 3)
    if query.dtype in _HALVES:
        delta = timeline.take(sums)
    else:
        product = timeline.take(4 * gradient.numel())
        unordered = timeline.take(sums)
        delta = timeline.take(sums)
        timeline.free(unordered)
        timeline.free(product)
    workspace = timeline.take(batch * heads * _efficient_workspace(gpu, query, key.shape[2]))
    timeline.free(delta)
    timeline.free(workspace)
    timeline.free(copy)
    return timeline


def _efficient_workspace(gpu: Gpu, query: Tensor, keys: int) -> int:
    """Return the bytes of one head's workspace: the blocks of the query's gradient."""
    rows, width = query.shape[2:]
    half, ampere = query.dtype in _HALVES, gpu.capability >= (8, 0)
    little_memory = gpu.capability in {(8, 6), (8, 7), (8, 9), (12, 0), (12, 1)}
    wide_blocks = ampere and not (little_memory and rule_of("attention-blocks") is SMALL_BLOCKS)
    block, columns = (128, 64) if width > 64 and (half or wide_blocks) else (64, 64)
    if half and ampere and (96 if little_memory else 64) < width <= _IN_REGISTERS:
        columns = 128
    parts = _up(rows, block) * _up(width, columns)
    of_query = parts * (4 * block * columns + _LOCK_BYTES)
    if not half or width <= _IN_REGISTERS:
        return of_query
    of_key = 4 * _up(keys, columns) * columns * _up(width, block) * block
    return of_query + 2 * of_key


def _flash_splits(gpu: Gpu, heads: int, rows: int, keys: int, width: int) -> int:
    blocks = heads * _up(rows, _FLASH_ROWS)
    wide = 256 if width <= 64 else 128 if width <= 128 else 64
    key_blocks = _up(keys, wide)
    slots = 2 * gpu.multiprocessors
    if blocks >= 0.8 * slots:
        return 1
    most = min(_MOST_SPLITS, slots, key_blocks)
    efficiency = {}
    for splits in range(1, most + 1):
        if splits == 1 or _up(key_blocks, splits) != _up(key_blocks, splits - 1):
            waves = blocks * splits / slots
            efficiency[splits] = waves / -(-waves // 1)
    best = max(efficiency.values())
    return next(s for s, value in efficiency.items() if value >= 0.85 * best)


def _flash_width(width: int) -> int:
    multiple = 32 if width <= 128 else 64
    return _up(width, multiple) * multiple


def _is_by_rows(tensor: Tensor) -> bool:
    """Return whether batch, row, head and width follow one another in memory."""
    return tensor.transpose(1, 2).is_contiguous()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)

"""Products of matrices that CUDA alone has: results of another type, and 4-bit weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.dry_runs.cpu_equivalents.table import computes_for


@computes_for("mm.dtype")
def _mm(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    return one.to(dtype) @ other.to(dtype)


@computes_for("bmm.dtype")
def _bmm(one: Tensor, other: Tensor, dtype: torch.dtype) -> Tensor:
    return one.to(dtype) @ other.to(dtype)


@computes_for("addmm.dtype")
def _addmm(
    added: Tensor,
    one: Tensor,
    other: Tensor,
    dtype: torch.dtype,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    return torch.addmm(added.to(dtype), one.to(dtype), other.to(dtype), beta=beta, alpha=alpha)


@computes_for("baddbmm.dtype")
def _baddbmm(
    added: Tensor,
    one: Tensor,
    other: Tensor,
    dtype: torch.dtype,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    return torch.baddbmm(added.to(dtype), one.to(dtype), other.to(dtype), beta=beta, alpha=alpha)


@computes_for("_convert_weight_to_int4pack")
def _packed(weight: Tensor, tiles: int) -> Tensor:
    """Keep the order of the rows; the function below is the only one that reads it."""
    rows, columns = weight.shape[0], 2 * weight.shape[1]
    shape = (rows // 8, columns // (tiles * 16), 32, tiles // 2)
    return weight.contiguous().view(torch.int32).view(shape)


@computes_for("_weight_int4pack_mm")
def _int4_product(given: Tensor, packed: Tensor, group: int, scales: Tensor) -> Tensor:
    rows, columns = packed.shape[0] * 8, packed.numel() // packed.shape[0]
    halves = packed.contiguous().view(rows, columns // 8).view(torch.uint8)
    numbers = torch.stack([halves >> 4, halves & 15], -1).view(rows, -1, group).float() - 8
    scale, zero = scales.float().permute(2, 1, 0)[..., None]
    made: Tensor = given.float() @ (numbers * scale + zero).flatten(1).T
    return made.to(given.dtype)


_BY_ROW = 1
"""The recipe of one scale for each row or column, as PyTorch numbers them."""


@computes_for("_scaled_grouped_mm")
def _scaled_grouped(
    one: Tensor,
    other: Tensor,
    scales: Tensor,
    other_scales: Tensor,
    ends: Tensor | None = None,
    bias: Tensor | None = None,
    scale_result: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    use_fast_accum: bool = False,  # noqa: ARG001
) -> Tensor:
    if bias is not None or scale_result is not None or scales.dtype != torch.float32:
        raise NotImplementedError("only scales of rows and columns")
    product = torch._grouped_mm(one.float(), other.float(), offs=ends)
    if product.dim() == 3:
        groups, rows, columns = product.shape
        product *= scales.view(groups, rows, 1) * other_scales.view(groups, 1, columns)
    elif one.dim() == 2:
        product *= scales[:, None] * other_scales[_groups(len(one), ends)]
    else:
        product *= scales[_groups(other.shape[1], ends)].T * other_scales
    return product.to(out_dtype or torch.bfloat16)


def _groups(count: int, ends: Tensor | None) -> Tensor:
    """Return the group of each row or column."""
    assert ends is not None
    found = torch.searchsorted(ends.long(), torch.arange(count), right=True)
    return found.clamp_(max=len(ends) - 1)


@computes_for("_scaled_grouped_mm_v2")
def _scaled_grouped_by_recipe(
    one: Tensor,
    other: Tensor,
    scales: Sequence[Tensor],
    recipe: Sequence[int],
    _swizzle: Sequence[int],
    other_scales: Sequence[Tensor],
    other_recipe: Sequence[int],
    _other_swizzle: Sequence[int],
    ends: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    *_: object,
) -> Tensor:
    if [*recipe, *other_recipe] != [_BY_ROW, _BY_ROW]:
        raise NotImplementedError("only scales of rows and columns")
    made: Tensor = _scaled_grouped(
        one, other, scales[0], other_scales[0], ends, bias, None, out_dtype
    )
    return made


@computes_for("_scaled_addmm")
def _scaled_addmm(
    added: Tensor, *operands: Any, beta: float = 1, alpha: float = 1, **_: object
) -> Tensor:
    factors, contraction = operands[:8], operands[8:]
    product = torch.ops.aten._scaled_mm_v2(*factors, None, torch.float32, *contraction)
    made: Tensor = (beta * added.float() + alpha * product).to(added.dtype)
    return made

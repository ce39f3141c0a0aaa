"""Products of matrices of which two of four elements are zeros, by PyTorch's own conversions."""

import torch
from torch import Tensor
from torch.sparse._semi_structured_conversions import (
    sparse_semi_structured_from_dense_cutlass,
    sparse_semi_structured_to_dense_cutlass,
)

from harness.dry_runs.cpu_equivalents.table import computes_for


@computes_for("_to_sparse_semi_structured")
def _compressed(dense: Tensor) -> tuple[Tensor, Tensor]:
    made: tuple[Tensor, Tensor] = sparse_semi_structured_from_dense_cutlass(dense)  # type: ignore[no-untyped-call]
    return made


def _product(one: Tensor, places: Tensor, other: Tensor, out_dtype: torch.dtype | None) -> Tensor:
    dense: Tensor = sparse_semi_structured_to_dense_cutlass(one, places)  # type: ignore[no-untyped-call]
    wide = torch.int32 if dense.dtype == torch.int8 else torch.float32
    kept = wide if dense.dtype == torch.int8 else dense.dtype
    made: Tensor = (dense.to(wide) @ other.to(wide)).to(out_dtype or kept)
    return made


@computes_for("_sparse_semi_structured_mm")
def _mm(
    one: Tensor, places: Tensor, other: Tensor, *, out_dtype: torch.dtype | None = None
) -> Tensor:
    return _product(one, places, other, out_dtype)


@computes_for("_sparse_semi_structured_addmm")
def _addmm(
    added: Tensor,
    one: Tensor,
    places: Tensor,
    other: Tensor,
    *,
    alpha: float = 1,
    beta: float = 1,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """Add the same number to a whole row."""
    product = _product(one, places, other, out_dtype)
    return alpha * product + beta * added[:, None].to(product.dtype)


@computes_for("_sparse_semi_structured_linear")
def _linear(
    values: Tensor,
    weight: Tensor,
    places: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    made = _product(weight, places, values.flatten(0, -2).T, out_dtype).T
    if bias is not None:
        made = made + bias
    functions = {"relu": torch.relu, "silu": torch.nn.functional.silu}
    made = functions[activation](made) if activation and activation != "none" else made
    return made.reshape(*values.shape[:-1], -1)

"""Attention of CUDA alone, flash, efficient and cuDNN's, by PyTorch's attention on the CPU."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.dry_runs.cpu_equivalents.table import (
    computes_for,
    gradients_of,
    seed_from,
    unread,
)


def attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    *,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[Tensor]:
    """Return the attention of operands whose heads lie before their positions."""
    if dropout:
        seed_from(query, key)
    grouped = query.shape[-3] != key.shape[-3]
    try:
        out = scaled_dot_product_attention(
            query, key, value, bias, dropout, causal, scale=scale, enable_gqa=grouped
        )
    except RuntimeError:  # the script allows only a backend that the CPU does not have
        if bias is not None and bias.dtype == torch.bool:
            bias = torch.zeros_like(bias, dtype=query.dtype).masked_fill(~bias, -torch.inf)
        out = torch.ops.aten._scaled_dot_product_attention_math(
            query, key, value, bias, dropout, causal, scale=scale, enable_gqa=grouped
        )[0]
    return (out,)


@computes_for("_scaled_dot_product_flash_attention")
def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float = 0.0,
    is_causal: bool = False,
    _debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    (out,) = attended(query, key, value, dropout=dropout, causal=is_causal, scale=scale)
    lengths = query.shape[2], key.shape[2]
    return out, unread(), unread(), unread(), *lengths, unread(), unread(), unread()


@computes_for("_scaled_dot_product_flash_attention_backward")
def _flash_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _sums: Tensor,
    _queries: Tensor,
    _keys: Tensor,
    _most_queries: int,
    _most_keys: int,
    dropout: float,
    is_causal: bool,
    *_: Tensor,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    attend = partial(attended, dropout=dropout, causal=is_causal, scale=scale)
    return tuple(gradients_of(attend, (query, key, value), [gradient]))


@computes_for("_scaled_dot_product_cudnn_attention")
def _cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    _sums: bool,
    dropout: float = 0.0,
    is_causal: bool = False,
    _debug_mask: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    (out,) = attended(query, key, value, bias, dropout=dropout, causal=is_causal, scale=scale)
    lengths = query.shape[2], key.shape[2]
    return out, unread(), unread(), unread(), *lengths, unread(), unread(), unread()


@computes_for("_scaled_dot_product_cudnn_attention_backward")
def _cudnn_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _sums: Tensor,
    _seed: Tensor,
    _offset: Tensor,
    bias: Tensor | None,
    _queries: Tensor,
    _keys: Tensor,
    _most_queries: int,
    _most_keys: int,
    dropout: float,
    is_causal: bool,
    *,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    mask = None if bias is None or bias.numel() == 0 else bias
    attend = partial(attended, bias=mask, dropout=dropout, causal=is_causal, scale=scale)
    return tuple(gradients_of(attend, (query, key, value), [gradient]))


@computes_for("_scaled_dot_product_efficient_attention")
def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    _: bool,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    (out,) = attended(query, key, value, bias, dropout=dropout, causal=is_causal, scale=scale)
    return out, unread(), unread(), unread()


@computes_for("_scaled_dot_product_efficient_attention_backward")
def _efficient_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    _out: Tensor,
    _sums: Tensor,
    _seed: Tensor,
    _offset: Tensor,
    dropout: float,
    mask: list[bool],
    is_causal: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Tensor, ...]:
    attend = partial(attended, dropout=dropout, causal=is_causal, scale=scale)
    if bias is not None and mask[3]:
        return tuple(gradients_of(attend, (query, key, value, bias), [gradient]))
    attend = partial(attend, bias=bias)
    return (*gradients_of(attend, (query, key, value), [gradient]), unread())

"""Attention of CUDA alone whose operands have their positions before their heads, also packed."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.dry_runs.cpu_equivalents.attention import attended
from harness.dry_runs.cpu_equivalents.table import computes_for, gradients_of, unread

_FROM_TOP_LEFT, _FROM_BOTTOM_RIGHT = 1, 2
"""The causal masks of efficient attention, as PyTorch numbers them."""


_Operands = tuple[Tensor, Tensor, Tensor]


def _pieces(operands: _Operands, queries: Tensor | None, keys: Tensor | None) -> list[_Operands]:
    """Return the operands of each sequence, heads first; without bounds there is one batch."""
    query, key, value = operands
    if queries is None or queries.numel() == 0:
        return [(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))]
    starts = queries.tolist()
    key_starts = starts if keys is None or keys.numel() == 0 else keys.tolist()

    def piece(tensor: Tensor, bounds: list[int], i: int) -> Tensor:
        return tensor[bounds[i] : bounds[i + 1]].transpose(0, 1)[None]

    return [
        (piece(query, starts, i), piece(key, key_starts, i), piece(value, key_starts, i))
        for i in range(len(starts) - 1)
    ]


def _mask(
    query: Tensor, key: Tensor, causal: bool, left: int | None, right: int | None
) -> Tensor | None:
    """Return the keys that each query sees; the last query is at the position of the last key."""
    rows, columns = query.shape[-2], key.shape[-2]
    own = (torch.arange(rows) + columns - rows)[:, None]
    other = torch.arange(columns)
    before = -1 if left is None else left
    after = 0 if causal else -1 if right is None else right
    if before < 0 and after < 0:
        return None
    seen = torch.ones(rows, columns, dtype=torch.bool)
    if after >= 0:
        seen &= other <= own + after
    if before >= 0:
        seen &= other >= own - before
    return seen


def _attended_pieces(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    queries: Tensor | None,
    keys: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    left: int | None = None,
    right: int | None = None,
) -> tuple[Tensor]:
    """Return the attention of a batch, or of packed sequences, which have one dimension less."""
    operands = (query, key, value)
    if query.dim() == 4 and queries is not None and queries.numel():
        operands = (query[0], key[0], value[0])
    pieces = [
        attended(
            *piece, _mask(piece[0], piece[1], causal, left, right), dropout=dropout, scale=scale
        )[0]
        for piece in _pieces(operands, queries, keys)
    ]
    if operands[0].dim() == 4:
        return (pieces[0].transpose(1, 2),)
    joined = torch.cat([piece[0].transpose(0, 1) for piece in pieces])
    return (joined.view(*query.shape[:-1], joined.shape[-1]),)


@computes_for("_flash_attention_forward")
def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Tensor | None,
    keys: Tensor | None,
    _most_queries: int,
    _most_keys: int,
    dropout: float,
    is_causal: bool,
    _debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    num_splits: int | None = None,  # noqa: ARG001
) -> tuple[Tensor, ...]:
    (out,) = _attended_pieces(
        query, key, value, queries=queries, keys=keys, dropout=dropout, causal=is_causal,
        scale=scale, left=window_size_left, right=window_size_right,
    )  # fmt: skip
    return out, unread(), unread(), unread(), unread()


@computes_for("_flash_attention_forward_no_dropout_inplace")
def _flash_into(out: Tensor, *operands: Any, **options: Any) -> Tensor:
    query, key, value, queries, keys, most_queries, most_keys, is_causal, debug_mask = operands
    made = _flash(
        query, key, value, queries, keys, most_queries, most_keys, 0.0, is_causal, debug_mask,
        **options,
    )  # fmt: skip
    out.copy_(made[0])
    return unread()


@computes_for("_flash_attention_backward")
def _flash_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _sums: Tensor,
    queries: Tensor | None,
    keys: Tensor | None,
    _most_queries: int,
    _most_keys: int,
    dropout: float,
    is_causal: bool,
    *_: Tensor,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
) -> tuple[Tensor, ...]:
    attend = partial(
        _attended_pieces, queries=queries, keys=keys, dropout=dropout, causal=is_causal,
        scale=scale, left=window_size_left, right=window_size_right,
    )  # fmt: skip
    return tuple(gradients_of(attend, (query, key, value), [gradient]))


def _efficiently(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    *,
    queries: Tensor | None,
    keys: Tensor | None,
    dropout: float,
    mask: int,
    scale: float | None,
) -> tuple[Tensor]:
    if bias is None and (mask != _FROM_TOP_LEFT or query.shape[1] == key.shape[1]):
        return _attended_pieces(
            query, key, value, queries=queries, keys=keys, dropout=dropout,
            causal=mask != 0, scale=scale,
        )  # fmt: skip
    if queries is not None or mask == _FROM_BOTTOM_RIGHT:
        raise NotImplementedError("packed sequences with a bias")
    heads = [one.transpose(1, 2) for one in (query, key, value)]
    if mask and bias is not None:
        seen = torch.ones(bias.shape[-2:], dtype=torch.bool).tril()
        bias, mask = bias.masked_fill(~seen, -torch.inf), 0
    causal = mask == _FROM_TOP_LEFT
    (out,) = attended(
        heads[0], heads[1], heads[2], bias, dropout=dropout, causal=causal, scale=scale
    )
    return (out.transpose(1, 2),)


@computes_for("_efficient_attention_forward")
def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    queries: Tensor | None,
    keys: Tensor | None,
    most_queries: int | None,
    most_keys: int | None,
    dropout: float,
    mask: int,
    _sums: bool = False,
    *,
    scale: float | None = None,
) -> tuple[Any, ...]:
    (out,) = _efficiently(
        query, key, value, bias, queries=queries, keys=keys, dropout=dropout, mask=mask,
        scale=scale,
    )  # fmt: skip
    lengths = most_queries or query.shape[1], most_keys or key.shape[1]
    return out, unread(), unread(), unread(), *lengths


@computes_for("_efficient_attention_backward")
def _efficient_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    _out: Tensor,
    queries: Tensor | None,
    keys: Tensor | None,
    _most_queries: int,
    _most_keys: int,
    _sums: Tensor,
    dropout: float,
    _seed: Tensor,
    _offset: Tensor,
    mask: int,
    bias_requires_grad: bool,
    *,
    scale: float | None = None,
    num_splits_key: int | None = None,  # noqa: ARG001
    shared_storage_dqdkdv: bool = False,  # noqa: ARG001
) -> tuple[Tensor, ...]:
    attend = partial(
        _efficiently, queries=queries, keys=keys, dropout=dropout, mask=mask, scale=scale
    )
    if bias is not None and bias_requires_grad:
        return tuple(gradients_of(attend, (query, key, value, bias), [gradient]))
    attend = partial(attend, bias=bias)
    return (*gradients_of(attend, (query, key, value), [gradient]), unread())

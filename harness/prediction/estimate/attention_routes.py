"""Runs scaled dot-product attention with the backend that PyTorch would choose on a GPU.

Source: aten/src/ATen/native/transformers/attention.cpp (``scaled_dot_product_attention``,
``preprocess_mask``, ``_scaled_dot_product_attention_math``), cuda/sdp_utils.cpp
(``can_use_flash_attention``, ``can_use_mem_efficient_attention``), sdp_utils_cpp.h; the backends
that torch 2.15 chooses were observed in dry runs.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from harness.prediction.versions import TorchVersion, described_version

_HALVES = (torch.float16, torch.bfloat16)
_MULTIPLE = 8
"""Multiple to which head sizes (flash) and mask rows (memory-efficient kernel) are padded."""
_LITTLE_SHARED_MEMORY = {(8, 6), (8, 7), (8, 9), (12, 0), (12, 1)}
"""Compute capabilities with 100 KiB of shared memory per multiprocessor."""
_FUSES_MORE = TorchVersion(2, 14)
"""First PyTorch version with fused kernels for 3-D tensors and for GQA without flash attention."""

_aten = torch.ops.aten


class _Call(NamedTuple):
    """The GPU's capability, and the arguments of one attention call; ``mask`` is additive."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    dropout: float
    is_causal: bool
    scale: float | None
    shares_keys: bool
    capability: tuple[int, int]

    @property
    def width(self) -> int:
        return self.query.shape[-1]

    @property
    def wants_gradient(self) -> bool:
        return torch.is_grad_enabled() and any(t.requires_grad for t in self[:3])


def attention(
    capability: tuple[int, int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention as a GPU with ``capability`` does; the other arguments are PyTorch's."""
    given, mask = [query, key, value], attn_mask
    is_flat = all(t.dim() == 3 for t in given) and described_version() >= _FUSES_MORE
    if is_flat:
        given = [t.unsqueeze(0) for t in given]
    if mask is not None:
        mask = _added_mask(mask, given[0].dtype)
    query, key, value = given
    options = (dropout_p, is_causal, scale, enable_gqa, capability)
    output = _route(_Call(query, key, value, mask, *options))
    return output.squeeze(0) if is_flat else output


def _route(call: _Call) -> Tensor:
    allowed: Any = torch.backends.cuda
    if _is_regular(call):
        if allowed.cudnn_sdp_enabled() and _cudnn_runs(call):
            kernel = _aten._scaled_dot_product_cudnn_attention
            return _fused(kernel, call, call.mask, 0.0, is_causal=(call.is_causal, False))
        if allowed.flash_sdp_enabled() and _flash_runs(call):
            return _flash(call)
        if allowed.mem_efficient_sdp_enabled() and _efficient_runs(call):
            mask = call.mask
            if mask is not None and (short := -mask.shape[-1] % _MULTIPLE):
                mask = functional.pad(mask, (0, short))[..., : mask.shape[-1]]
            kernel = _aten._scaled_dot_product_efficient_attention
            return _fused(kernel, call, mask, call.dropout, is_causal=(call.is_causal,))
    return _math(call)


def _is_regular(call: _Call) -> bool:
    """Return whether a fused kernel supports the shapes, dtypes and strides of the tensors."""
    if not all(t.dim() == 4 and t.numel() and t.stride(-1) == 1 for t in call[:3]):
        return False
    query, key, value = (t.shape for t in call[:3])
    if len({t.dtype for t in call[:3]}) > 1 or not query[0] == key[0] == value[0]:
        return False
    by_heads = query[1] % key[1] == 0 if call.shares_keys else query[1] == key[1]
    return by_heads and key[1] == value[1]


def _cudnn_runs(call: _Call) -> bool:
    """Return whether PyTorch prefers cuDNN's attention kernel for this call on this GPU."""
    narrow = call.width <= 128 or (call.width == 256 and call.capability[0] == 9)
    is_half = call.capability[0] in (9, 10) and call.query.dtype in _HALVES
    return is_half and narrow and call.width % _MULTIPLE == 0 and not call.dropout


def _flash_runs(call: _Call) -> bool:
    query, key, value = call[:3]
    width = call.width
    if call.capability < (8, 0) or query.dtype not in _HALVES or call.mask is not None:
        return False
    if not (width == key.shape[-1] == value.shape[-1] <= 256):
        return False
    if call.is_causal and query.shape[-2] != key.shape[-2]:
        return False
    is_tight = call.capability in _LITTLE_SHARED_MEMORY and call.wants_gradient and width > 192
    return not (is_tight and (call.dropout or width <= 224))


def _efficient_runs(call: _Call) -> bool:
    query, key, value = call[:3]
    half, ampere = query.dtype in _HALVES, call.capability >= (8, 0)
    kinds = (torch.float16, torch.float32, *[torch.bfloat16] * ampere)
    if query.dtype not in kinds or call.width != key.shape[-1]:
        return False
    shares = query.shape[1] != key.shape[1]
    if described_version() < _FUSES_MORE and (shares or (call.is_causal and call.mask is not None)):
        return False
    multiple = 4 if ampere else 1
    if ampere or (half and call.capability >= (7, 0)):
        multiple = max(multiple, 8 if half else 4)
    return not (call.width % multiple or value.shape[-1] % multiple)


def _added_mask(mask: Tensor, kind: torch.dtype) -> Tensor:
    """Return an additive mask: True becomes 0, and False becomes minus infinity."""
    if mask.dtype != torch.bool:
        return mask
    least = torch.scalar_tensor(-math.inf, dtype=kind, device=mask.device)
    nought = torch.scalar_tensor(0.0, dtype=kind, device=mask.device)
    return torch.where(mask, nought, least)


def _fused(
    kernel: Any, call: _Call, mask: Tensor | None, dropout: float, *, is_causal: tuple[bool, ...]
) -> Tensor:
    if mask is not None:
        mask = mask.expand(*call.query.shape[:3], call.key.shape[2])
    options = (mask, call.wants_gradient, dropout, *is_causal)
    output: Tensor = kernel(*call[:3], *options, scale=call.scale)[0]
    return output


def _flash(call: _Call) -> Tensor:
    scale = call.scale if call.scale is not None else 1 / math.sqrt(call.width)
    short = -call.width % _MULTIPLE
    padded = [functional.pad(t, (0, short)) for t in call[:3]] if short else call[:3]
    kernel: Any = _aten._scaled_dot_product_flash_attention
    output: Tensor = kernel(*padded, call.dropout, call.is_causal, False, scale=scale)[0]
    return output[..., : call.width] if short else output


def _math(call: _Call) -> Tensor:
    query, key, value, mask = call[:4]
    kind = query.dtype
    backend: Any = torch.backends.cuda
    if kind in _HALVES and not backend.fp16_bf16_reduction_math_sdp_allowed():
        query, key, value = query.float(), key.float(), value.float()
    if call.is_causal:
        size = query.shape[-2], key.shape[-2]
        square = torch.ones(size, dtype=torch.bool, device=query.device)
        mask = _added_mask(square.tril(), query.dtype)
    if call.shares_keys:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    factor = math.sqrt(call.scale if call.scale is not None else 1 / math.sqrt(call.width))
    scores = torch.matmul(query * factor, (key * factor).transpose(-2, -1))
    weights = scores.softmax(-1) if mask is None else torch._safe_softmax(scores.add_(mask), -1)
    del scores
    if call.dropout:
        weights = torch.native_dropout(weights, call.dropout, True)[0]
    output = torch.matmul(weights, value).to(kind)
    weights.to(kind)  # PyTorch returns the weights too; the caller drops them
    return output

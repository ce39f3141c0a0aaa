"""Scaled dot-product attention as CUDA routes it: flash, memory-efficient or math.

Source: aten/src/ATen/native/transformers/attention.cpp (``scaled_dot_product_attention``,
``preprocess_mask``, ``_scaled_dot_product_attention_math``), cuda/sdp_utils.cpp
(``can_use_flash_attention``, ``can_use_mem_efficient_attention``), sdp_utils_cpp.h.
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.module.gpu_autocast import cast_arguments
from harness.prediction.module.gpu_scratch import KernelScratch

Kernel = Literal["flash", "efficient", "math"]

CUDNN_ATTENTION = (
    "attention: on capability 9.x and 10.x PyTorch prefers cuDNN's kernel for 16-bit types where "
    "cuDNN is new enough; the flash kernel is counted"
)

_HALVES = (torch.float16, torch.bfloat16)
_MOST_FLASH_WIDTH = 256
_FLASH_MULTIPLE = 8
_MASK_MULTIPLE = 8


def attention_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    enable_gqa: bool,
    gpu: Gpu,
) -> Kernel:
    """Return which kernel PyTorch would choose on ``gpu``."""
    given = (query, key, value)
    allowed: Any = torch.backends.cuda
    fits = query.dim() == 4 and all(t.dim() == 4 and t.numel() for t in given)
    fits = fits and len({t.dtype for t in given}) == 1
    flash = fits and allowed.flash_sdp_enabled()
    if flash and _flash_runs(given, mask, dropout, is_causal, enable_gqa, gpu):
        return "flash"
    efficient = fits and allowed.mem_efficient_sdp_enabled()
    if efficient and _efficient_runs(given, mask, is_causal, enable_gqa, gpu):
        return "efficient"
    return "math"


def _wants_gradient(given: tuple[Tensor, ...]) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in given)


def _flash_runs(
    given: tuple[Tensor, ...],
    mask: Tensor | None,
    dropout: float,
    is_causal: bool,
    enable_gqa: bool,
    gpu: Gpu,
) -> bool:
    query, key, value = given
    width = query.shape[-1]
    if gpu.capability < (8, 0) or query.dtype not in _HALVES or mask is not None:
        return False
    if not (width == key.shape[-1] == value.shape[-1] <= _MOST_FLASH_WIDTH):
        return False
    if is_causal and query.shape[-2] != key.shape[-2]:
        return False
    if any(t.stride(-1) != 1 for t in given):
        return False
    small_memory = gpu.capability in {(8, 6), (8, 7), (8, 9), (12, 0), (12, 1)}
    if small_memory and _wants_gradient(given) and width > 192 and (dropout > 0 or width <= 224):
        return False
    return _heads_match(given, enable_gqa)


def _efficient_runs(
    given: tuple[Tensor, ...], mask: Tensor | None, is_causal: bool, enable_gqa: bool, gpu: Gpu
) -> bool:
    query, key, value = given
    half = query.dtype in _HALVES
    kinds: tuple[torch.dtype, ...] = (torch.float16, torch.float32)
    if gpu.capability >= (8, 0):
        kinds = (*kinds, torch.bfloat16)
    if query.dtype not in kinds or (enable_gqa and query.shape[1] != key.shape[1]):
        return False
    multiple = 4 if gpu.capability >= (8, 0) else 1
    if gpu.capability >= (8, 0) or (half and gpu.capability >= (7, 0)):
        multiple = max(multiple, 8 if half else 4)
    width = query.shape[-1]
    if width != key.shape[-1] or width % multiple or value.shape[-1] % multiple:
        return False
    if any(t.stride(-1) != 1 for t in given):
        return False
    if mask is not None and is_causal:
        return False
    return _heads_match(given, enable_gqa=False)


def _heads_match(given: tuple[Tensor, ...], enable_gqa: bool) -> bool:
    query, key, value = given
    if not query.shape[0] == key.shape[0] == value.shape[0]:
        return False
    if enable_gqa:
        return key.shape[1] == value.shape[1] and query.shape[1] % key.shape[1] == 0
    return query.shape[1] == key.shape[1] == value.shape[1]


class Attention:
    """``torch.nn.functional.scaled_dot_product_attention`` on one GPU."""

    def __init__(self, scratch: KernelScratch) -> None:
        self._gpu = scratch.gpu
        self._scratch = scratch

    def __call__(
        self,
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
        """Return the output; the arguments are PyTorch's."""
        query, key, value, attn_mask = cast_arguments(query, key, value, attn_mask)
        kernel = attention_kernel(
            query, key, value, attn_mask, dropout_p, is_causal, enable_gqa, self._gpu
        )
        self._scratch.uses_attention = True
        if attn_mask is not None:
            attn_mask = _float_mask(attn_mask, query.dtype)
        match kernel:
            case "flash":
                if self._gpu.capability[0] in (9, 10):
                    self._scratch.notes[CUDNN_ATTENTION] = None
                return _flash(query, key, value, dropout_p, is_causal, scale)
            case "efficient":
                return _efficient(query, key, value, attn_mask, dropout_p, is_causal, scale)
            case _:
                return _math(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)


def _reduces_in_half() -> bool:
    backend: Any = torch.backends.cuda
    return bool(backend.fp16_bf16_reduction_math_sdp_allowed())


def _float_mask(mask: Tensor, kind: torch.dtype) -> Tensor:
    """Return a mask to add: a boolean one becomes 0 and minus infinity."""
    if mask.dtype != torch.bool:
        return mask
    least = torch.scalar_tensor(-math.inf, dtype=kind, device=mask.device)
    nought = torch.scalar_tensor(0.0, dtype=kind, device=mask.device)
    return torch.where(mask, nought, least)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, dropout: float, causal: bool, scale: float | None
) -> Tensor:
    width = query.shape[-1]
    scale = scale if scale is not None else 1 / math.sqrt(width)
    short = -width % _FLASH_MULTIPLE
    if short:
        query, key, value = (functional.pad(t, (0, short)) for t in (query, key, value))
    kernel: Any = torch.ops.aten._scaled_dot_product_flash_attention
    output: Tensor = kernel(query, key, value, dropout, causal, False, scale=scale)[0]
    return output[..., :width] if short else output


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None,
) -> Tensor:
    if mask is not None:
        last = mask.shape[-1]
        if last % _MASK_MULTIPLE:
            mask = functional.pad(mask, (0, -last % _MASK_MULTIPLE))[..., :last]
        shape = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        mask = mask.expand(shape)
    gradient = _wants_gradient((query, key, value))
    kernel: Any = torch.ops.aten._scaled_dot_product_efficient_attention
    output: Tensor = kernel(query, key, value, mask, gradient, dropout, causal, scale=scale)[0]
    return output


def _math(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    scale: float | None,
    gqa: bool,
) -> Tensor:
    kernel: Any = torch.ops.aten._scaled_dot_product_attention_math
    if not dropout:
        output: Tensor = kernel(query, key, value, mask, 0.0, causal, scale=scale, enable_gqa=gqa)[
            0
        ]
        return output
    kind = query.dtype
    if kind in _HALVES and not _reduces_in_half():
        query, key, value = query.float(), key.float(), value.float()
    if causal:
        square = torch.ones(
            query.shape[-2], key.shape[-2], dtype=torch.bool, device=torch.device("cuda")
        )
        mask = _float_mask(square.tril(), query.dtype)
    if gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    factor = math.sqrt(scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
    scores = torch.matmul(query * factor, (key * factor).transpose(-2, -1))
    if mask is not None:
        scores.add_(mask)
        weights = torch._safe_softmax(scores, -1)
    else:
        weights = scores.softmax(-1)
    del scores
    if query.is_meta:
        weights = torch.native_dropout(weights, dropout, True)[0]
    product = torch.matmul(weights, value)
    output = product.to(kind)
    weights.to(kind)  # PyTorch returns the weights too; the caller drops them
    return output

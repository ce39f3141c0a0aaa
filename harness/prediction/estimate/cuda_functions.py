"""PyTorch's functions that CUDA runs another way than the meta device, and that way.

``torch.dropout``, ``torch.rms_norm`` and others choose a fused kernel by the device's type,
which is not CUDA for a meta tensor. Each function here does what PyTorch does on a GPU.

Source: aten/src/ATen/native/Dropout.cpp, layer_norm.cpp (``rms_norm``), SoftMax.cpp.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from harness.prediction.estimate.attention_routes import Attention
from harness.prediction.estimate.cudnn_recurrent import RECURRENT
from harness.prediction.estimate.meta_autocast import cast_arguments
from harness.prediction.gpu.catalogue import Gpu

if TYPE_CHECKING:
    from harness.prediction.estimate.gpu_recorder import GpuRecorder

Function = Callable[..., Any]

_HALVES = (torch.float16, torch.bfloat16)


def cuda_functions(recorder: "GpuRecorder", gpu: Gpu) -> dict[Function, Function]:
    """Return what to run instead, by PyTorch's function; ``recorder`` knows what is on the host."""

    def only_on_gpu(instead: Function, original: Function) -> Function:
        def run(*args: Any, **kwargs: Any) -> Any:
            first = args[0] if args else kwargs.get("input", kwargs.get("query"))
            on_gpu = isinstance(first, Tensor) and first.is_meta and not recorder.is_on_host(first)
            return (instead if on_gpu else original)(*args, **kwargs)

        return run

    replaced: dict[Function, Function] = {
        torch.dropout: _dropout,
        functional.linear: _linear,
        torch.rms_norm: _rms_norm,
        torch.softmax: _softmax(torch.softmax, torch.ops.aten._softmax),
        Tensor.softmax: _softmax(Tensor.softmax, torch.ops.aten._softmax),
        torch.log_softmax: _softmax(torch.log_softmax, torch.ops.aten._log_softmax),
        Tensor.log_softmax: _softmax(Tensor.log_softmax, torch.ops.aten._log_softmax),
        functional.scaled_dot_product_attention: Attention(gpu),
        **RECURRENT,
    }
    return {function: only_on_gpu(new, function) for function, new in replaced.items()}


def _dropout(given: Tensor, p: float = 0.5, train: bool = True) -> Tensor:
    """Draw the mask and multiply in one kernel: ``is_fused_kernel_acceptable``."""
    if train and 0 < p < 1 and given.numel():
        return torch.native_dropout(given, p, train)[0]
    return torch.dropout(given, p, train)


def _linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Add the bias in place where the product is not fused with it; meta tensors get a sum."""
    if bias is None or given.dim() == 2 or given.is_contiguous():
        return functional.linear(given, weight, bias)
    given, weight, bias = cast_arguments(given, weight, bias)
    return torch.matmul(given, weight.t()).add_(bias)


def _softmax(original: Function, operator: Any) -> Function:
    """Return a softmax that reads float16 and writes float32 without a copy between."""

    def run(given: Tensor, dim: int, dtype: torch.dtype | None = None, **others: Any) -> Any:
        autocast = torch.is_autocast_enabled("cuda")
        wanted = torch.float32 if autocast and dtype is None else dtype
        if given.dtype == torch.float16 and wanted == torch.float32:
            return operator(given, dim, True)
        return original(given, dim, dtype=dtype, **others)

    return run


class _FusedRmsNorm(torch.autograd.Function):
    """``aten::_fused_rms_norm``, which the meta device has only as a composite."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, shape: Sequence[int], weight: Tensor | None) -> Tensor:
        rows = given.shape[: given.dim() - len(shape)]
        output = torch.empty(given.shape, dtype=given.dtype, device=given.device)
        ones = [1] * len(shape)
        kind = torch.float32 if given.dtype in _HALVES else given.dtype
        deviation = torch.empty((*rows, *ones), dtype=kind, device=given.device)
        ctx.save_for_backward(given, deviation, weight)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        given, _, weight = ctx.saved_tensors
        wants_input, _, wants_weight = ctx.needs_input_grad
        of_input = torch.empty_like(given) if wants_input else None
        of_weight = torch.empty_like(weight) if wants_weight and weight is not None else None
        gradients[0].contiguous()  # the kernel reads a copy
        return of_input, None, of_weight


def _rms_norm(
    given: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, *_: object
) -> Tensor:
    if torch.is_autocast_enabled("cuda") and given.dtype in _HALVES:
        given = given.float()
    fused: Callable[..., Tensor] = _FusedRmsNorm.apply
    return fused(given, list(normalized_shape), weight)

"""Operators that CUDA has and PyTorch's meta device lacks or runs in a costlier way.

Each function returns tensors of the shapes, types and storages that the CUDA kernel returns.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def _nothing(*_: object, **__: object) -> None:
    """Update in place: a fused optimizer allocates nothing."""


def _reduced_loss(operator: Any) -> Callable[..., Tensor]:
    """Return a loss whose scalar keeps the storage of the losses of all elements.

    The structured CUDA kernel writes them into the result and reduces it in place.
    """

    def run(given: Tensor, target: Tensor, reduction: int = 1, *others: Any) -> Tensor:
        result: Tensor = operator(given, target, reduction, *others)
        if not reduction:
            return result
        shape = torch.broadcast_shapes(given.shape, target.shape)  # type: ignore[no-untyped-call]
        return torch.empty(shape, dtype=result.dtype, device="meta").as_strided((), ())

    return run


def _batch_norm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, mean and inverse deviation; the meta kernel computes them step by step."""
    given: Tensor = args[0]
    kind = torch.float32 if given.dtype in (torch.float16, torch.bfloat16) else given.dtype
    channels = given.shape[1] if args[5] else 0  # without training it keeps no statistics
    mean, deviation = (given.new_empty(channels, dtype=kind) for _ in range(2))
    return torch.empty_like(given), mean, deviation


def _layer_norm(given: Tensor, *others: Any) -> Any:
    """Return contiguous results, whatever the layout of the input."""
    return _aten.native_layer_norm(given.contiguous(), *others)


def _layer_norm_backward(gradient: Tensor, given: Tensor, *others: Any) -> Any:
    return _aten.native_layer_norm_backward(gradient.contiguous(), given.contiguous(), *others)


def _threshold_backward(gradient: Tensor, given: Tensor, threshold: Any) -> Tensor:
    """Return the result without the meta kernel's detour, which takes a sixth of the time."""
    if gradient.dtype == given.dtype and gradient.stride() == given.stride():
        return torch.empty_like(given)
    result: Tensor = _aten.threshold_backward(gradient, given, threshold)
    return result


KERNELS: dict[Any, Callable[..., Any]] = {
    _aten.mse_loss.default: _reduced_loss(_aten.mse_loss.default),
    _aten.smooth_l1_loss.default: _reduced_loss(_aten.smooth_l1_loss.default),
    _aten.huber_loss.default: _reduced_loss(_aten.huber_loss.default),
    _aten.native_batch_norm.default: _batch_norm,
    _aten.threshold_backward.default: _threshold_backward,
    _aten.native_layer_norm.default: _layer_norm,
    _aten.native_layer_norm_backward.default: _layer_norm_backward,
    **{
        getattr(getattr(_aten, name), overload): _nothing
        for name in ("_fused_sgd_", "_fused_adam_", "_fused_adamw_", "_fused_adagrad_")
        if hasattr(_aten, name)
        for overload in getattr(_aten, name).overloads()
    },
}
"""By operator, what runs on the simulated GPU."""

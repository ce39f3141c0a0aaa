"""Replaces operators that allocate other blocks on CUDA than on the meta device.

``torch.dropout``, ``torch.rms_norm`` and other functions use a fused kernel only for CUDA tensors,
so meta tensors would use another kernel. A recurrent network runs as one call of cuDNN. The reserve
space of cuDNN is estimated as the values that every algorithm must keep: gates, cell states and the
outputs between layers. Dropout in cuDNN also keeps a random state for each thread of the GPU.
``KERNELS`` contains operators that allocate too much on the meta device or do not exist there. Each
function returns tensors with the shapes, dtypes and storages of the CUDA kernel's results.

Source: aten/src/ATen/native/Dropout.cpp, layer_norm.cpp (``rms_norm``), SoftMax.cpp,
cudnn/RNN.cpp; harness/dry_runs/stub/cuda/cudnn.c.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from harness.prediction.estimate.attention_routes import attention
from harness.prediction.estimate.cell_functions import cell_functions
from harness.prediction.gpu.catalogue import Gpu

Function = Callable[..., Any]

_HALVES = (torch.float16, torch.bfloat16)
_aten = torch.ops.aten
_EFFICIENT = _aten._scaled_dot_product_efficient_attention.default


def cuda_functions(gpu: Gpu) -> dict[Any, Function]:
    """Return a dict from composite operators to the functions that replace them."""
    recurrent = partial(_recurrent, _random_states(gpu))
    return {
        _aten.dropout.default: _dropout,
        _aten.rms_norm.default: _rms_norm,
        _aten.softmax.int: _softmax(_aten.softmax.int, _aten._softmax),
        _aten.log_softmax.int: _softmax(_aten.log_softmax.int, _aten._log_softmax),
        _aten.scaled_dot_product_attention.default: partial(attention, gpu.capability),
        _aten.lstm.input: partial(recurrent, 4),
        _aten.gru.input: partial(recurrent, 3),
        _aten.rnn_tanh.input: partial(recurrent, 1),
        _aten.rnn_relu.input: partial(recurrent, 1),
        **cell_functions(),
    }


def _dropout(given: Tensor, p: float, train: bool) -> Tensor:
    """Run dropout as one fused kernel if CUDA would do so (``is_fused_kernel_acceptable``)."""
    if train and 0 < p < 1 and given.numel():
        return torch.native_dropout(given, p, train)[0]
    return torch.dropout(given, p, train)


def _softmax(original: Function, operator: Any) -> Function:
    """Return a softmax function that converts float16 to float32 without a copy."""

    def run(given: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
        if given.dtype == torch.float16 and dtype == torch.float32:
            return operator(given, dim, True)
        return original(given, dim, dtype)

    return run


class _FusedRmsNorm(torch.autograd.Function):
    """``aten::_fused_rms_norm``, which PyTorch decomposes on the meta device."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, shape: Sequence[int], weight: Tensor | None) -> Tensor:
        rows = given.shape[: given.dim() - len(shape)]
        output = given.new_empty(given.shape)
        kind = torch.float32 if given.dtype in _HALVES else given.dtype
        deviation = given.new_empty((*rows, *[1] * len(shape)), dtype=kind)
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
    fused: Callable[..., Tensor] = _FusedRmsNorm.apply
    return fused(given, list(normalized_shape), weight)


class _RecurrentLayers(torch.autograd.Function):
    """All layers of a recurrent network, as one autograd function."""

    @staticmethod
    def forward(
        ctx: Any,
        given: Tensor,
        shape: Sequence[int],
        reserve: int,
        random: Tensor | None,
        *held: Tensor,
    ) -> Any:
        """Return the output and the last states; save the tensors that the backward pass reads."""
        output = given.new_empty(shape)
        kept = given.new_empty(reserve)
        states = [torch.empty_like(state) for state in held[:2] if state.dim() == 3]
        ctx.save_for_backward(given, *held, output, kept, random)
        return output, *states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        given, *held = ctx.saved_tensors[:-3]
        gradients[0].contiguous()
        made = [torch.empty_like(t) for t in (given, *held)]
        wanted = (ctx.needs_input_grad[0], *ctx.needs_input_grad[4:])
        results = [g if want else None for g, want in zip(made, wanted, strict=True)]
        return results[0], None, None, None, *results[1:]


def _random_states(gpu: Gpu) -> Callable[[Tensor], Tensor]:
    """Return a function that creates cuDNN's dropout states at its first call."""
    threads = gpu.multiprocessors * gpu.threads_per_multiprocessor
    made: list[Tensor] = []

    def states(given: Tensor) -> Tensor:
        if not made:
            made.append(given.new_empty(48 * threads, dtype=torch.uint8))
        return made[0]

    return states


def _recurrent(
    random: Callable[[Tensor], Tensor],
    gates: int,
    given: Tensor,
    hx: Any,
    weights: Sequence[Tensor],
    *rest: Any,
) -> Any:
    """Replace ``torch.lstm`` or another recurrent function; ``gates`` is the number of gates."""
    has_cell = gates == 4  # an LSTM's
    _, layers, dropout, train, bidirectional, _ = rest
    states = list(hx) if has_cell else [hx]
    directions, hidden = 1 + bidirectional, states[-1].shape[-1]
    projected = states[0].shape[-1]
    positions = given.shape[0] * given.shape[1] * directions
    each = positions * ((gates + has_cell) * hidden * layers + (layers - 1) * projected)
    shape = (*given.shape[:2], directions * projected)
    held = (*states, *weights)
    drawn = random(given) if train and dropout else None
    results: Any = _RecurrentLayers.apply(given, shape, each if train else 0, drawn, *held)
    return results[: 1 + len(states)]


def _nothing(*_: object, **__: object) -> None:
    """Do nothing, because a fused optimizer updates in place and allocates nothing."""


def _reduced_loss(operator: Any) -> Function:
    """Return a loss function whose scalar result uses the storage of all elementwise losses.

    The CUDA kernel writes the elementwise losses into the result and reduces them in place.
    """

    def run(given: Tensor, target: Tensor, reduction: int = 1, *others: Any) -> Tensor:
        result: Tensor = operator(given, target, reduction, *others)
        if not reduction:
            return result
        shape = torch.broadcast_shapes(given.shape, target.shape)  # type: ignore[no-untyped-call]
        return torch.empty(shape, dtype=result.dtype, device="meta").as_strided((), ())

    return run


def _batch_norm(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch normalization's output, mean and inverse standard deviation."""
    given: Tensor = args[0]
    kind = torch.float32 if given.dtype in _HALVES else given.dtype
    channels = given.shape[1] if args[5] else 0  # without training it keeps no statistics
    mean, deviation = (given.new_empty(channels, dtype=kind) for _ in range(2))
    return torch.empty_like(given), mean, deviation


def _efficient_attention(*args: Any, **kwargs: Any) -> Any:
    """Run efficient attention's meta kernel; with dropout, its random state is in CPU memory."""
    output, sums, *state = _EFFICIENT(*args, **kwargs)
    has_dropout = any(args[5:6])
    return output, sums, *(torch.zeros_like(s, device="cpu") if has_dropout else s for s in state)


KERNELS: dict[Any, Function] = {
    _EFFICIENT: _efficient_attention,
    _aten.native_batch_norm.default: _batch_norm,
    **{
        loss: _reduced_loss(loss)
        for loss in (_aten.mse_loss.default, _aten.smooth_l1_loss.default, _aten.huber_loss.default)
    },
    **{
        getattr(getattr(_aten, name), overload): _nothing
        for name in ("_fused_sgd_", "_fused_adam_", "_fused_adamw_", "_fused_adagrad_")
        for overload in getattr(_aten, name).overloads()
    },
}
"""Functions for the simulated GPU, by the operator that they replace."""

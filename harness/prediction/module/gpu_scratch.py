"""What CUDA's kernels allocate next to their results, operator by operator.

PyTorch's meta kernels say what an operator returns; these rules say what its CUDA kernel
allocates in addition: copies of operands that it cannot read as they lie, temporaries, staging
buffers. ``registered_operators`` holds the rules for operators of your own.

Source: aten/src/ATen/native/cuda/SoftMax.cu, Blas.cpp (``prepare_matrix_for_cublas``),
layer_norm_kernel.cu, group_norm_kernel.cu, Embedding.cu, Normalization.cuh, Loss.cu.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction
from harness.prediction.gpu.workspaces import are_kept, is_lt_product, workspace_bytes
from harness.prediction.module import gpu_index_scratch, gpu_norm_scratch
from harness.prediction.module.gpu_attention_scratch import (
    efficient_backward,
    efficient_forward,
    flash_backward,
    flash_forward,
)
from harness.prediction.module.gpu_convolution import Convolution
from harness.prediction.module.kernel_timeline import Timeline, around
from harness.prediction.module.registered_operators import REGISTERED


class Call(NamedTuple):
    """One call of an operator: its arguments, and the shapes of what it returns."""

    rules: "KernelScratch"
    args: Sequence[Any]
    kwargs: Any
    result: Any


Rule = Callable[[Call], Timeline | None]
"""None where nothing but the results is allocated, in order."""

_MATMULS = {
    "aten::mm": (0, 1),
    "aten::addmm": (1, 2),
    "aten::bmm": (0, 1),
    "aten::baddbmm": (1, 2),
    "aten::_addmm_activation": (1, 2),
    "aten::addmv": (1,),
    "aten::mv": (),
    "aten::dot": (),
}
"""Operators that call cuBLAS, and which arguments are its matrices."""

_CONVOLUTIONS = {"aten::convolution", "aten::convolution_backward"}

_COPIED_GRADIENTS = {
    "aten::max_pool2d_with_indices_backward": 0,
    "aten::max_pool3d_with_indices_backward": 0,
    "aten::avg_pool2d_backward": 0,
    "aten::avg_pool3d_backward": 0,
    "aten::_adaptive_avg_pool2d_backward": 0,
    "aten::_adaptive_avg_pool3d_backward": 0,
    "aten::adaptive_max_pool2d_backward": 0,
    "aten::upsample_nearest1d_backward": 0,
    "aten::upsample_nearest2d_backward": 0,
    "aten::upsample_nearest3d_backward": 0,
    "aten::upsample_bilinear2d_backward": 0,
    "aten::upsample_bicubic2d_backward": 0,
    "aten::upsample_linear1d_backward": 0,
    "aten::upsample_trilinear3d_backward": 0,
    "aten::reflection_pad2d_backward": 0,
    "aten::_log_softmax_backward_data": 0,
    "aten::im2col": 0,
}
"""Operators whose kernel copies this argument where it is not contiguous."""

EMBEDDING = (
    "embedding: the temporary storage of two scans in the backward pass is estimated (1 to 3 KB; "
    "it depends on the CUB version)"
)
CUDNN = "convolution: cuDNN's workspaces are not known and not counted"


class KernelScratch:
    """The rules for one GPU."""

    def __init__(self, gpu: Gpu, *, cudnn: bool) -> None:
        self.gpu = gpu
        self.cudnn = cudnn
        self.workspace_bytes = workspace_bytes(gpu.capability, gpu.workspace_config)
        self.keeps_workspaces = are_kept()
        self.notes: dict[str, None] = {}
        self.uses_attention = False
        """Whether fused attention was asked for, whose kernel depends on the capability."""

    def of(self, name: str, args: Sequence[Any], kwargs: Any, result: Any) -> Timeline | None:
        """Return what a call allocates, in order; ``result`` has the shapes of what it returns.

        None where that is the results alone.
        """
        operator = name.partition(".")[0]
        registered = REGISTERED.get(name) or REGISTERED.get(operator)
        if registered is not None:
            return around(_count(result), after=[list(registered(args, result))])
        matrices = _MATMULS.get(operator)
        if matrices is not None:
            return _product([args[place] for place in matrices])
        place = _COPIED_GRADIENTS.get(operator)
        if place is not None:
            copies = _copies(args[place])
            return around(_count(result), after=[copies]) if copies else None
        rule = _RULES.get(operator)
        return None if rule is None else rule(Call(self, args, kwargs, result))

    def laid_out(self, name: str, result: Any) -> Any:
        """Return the result of an operator as CUDA lays it out in memory.

        PyTorch's own convolutions write contiguous results; its meta kernel follows cuDNN.
        """
        if self.cudnn or name.partition(".")[0] not in _CONVOLUTIONS:
            return result
        return tree_map_only(Tensor, Tensor.contiguous, result)

    def runs_in_lt(self, name: str, args: Sequence[Any], kwargs: Any) -> bool:
        """Return whether the product, if it is one, runs in cuBLASLt."""
        if name.partition(".")[0] not in ("aten::addmm", "aten::_addmm_activation"):
            return False
        bias, _, right = args[:3]
        factor = args[3] if len(args) > 3 else kwargs.get("beta", 1)
        whole = bias.dim() == 1 and bias.shape[0] == right.shape[1] and bias.is_contiguous()
        return bool(whole and factor == 1 and is_lt_product(*right.shape))

    def reduction(self, tensor: Tensor, dims: Sequence[int] | None, accumulator: int) -> list[int]:
        """Return the scratch of a reduction over ``dims``, all where there are none."""
        if not tensor.numel():
            return []
        reduced = {d % tensor.dim() for d in dims} if dims else set(range(tensor.dim()))
        return Reduction(
            shape=tensor.shape,
            strides=tensor.stride(),
            reduced=reduced,
            accumulator_bytes=accumulator,
        ).scratch_bytes(self.gpu)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _copies(*tensors: Tensor) -> list[int]:
    """Return the copies of tensors that are not contiguous."""
    return [_bytes(t) for t in tensors if not t.is_contiguous()]


def _matrix_copies(matrices: Sequence[Tensor]) -> list[int]:
    """Return the copies of matrices that cuBLAS cannot read by rows or by columns."""
    return [_bytes(m) for m in matrices if m.dim() >= 2 and m.numel() and not _is_readable(m)]


def _is_readable(matrix: Tensor) -> bool:
    rows, columns = matrix.shape[-2:]
    across, along = matrix.stride()[-2:]
    by_rows = along == 1 and across >= max(1, columns)
    by_columns = across == 1 and along >= max(1, rows)
    return by_rows or by_columns


def _count(result: Any) -> int:
    return 1 if isinstance(result, Tensor) else len(result) if isinstance(result, tuple) else 0


def _product(matrices: Sequence[Tensor]) -> Timeline:
    """Allocate the result and the copies of matrices, and multiply."""
    timeline = Timeline()
    timeline.results(0)
    copies = timeline.take(*_matrix_copies(matrices))
    timeline.product()
    timeline.free(copies)
    return timeline


def _sum(call: Call) -> Timeline | None:
    dims = (
        call.args[1]
        if len(call.args) > 1 and isinstance(call.args[1], list | tuple)
        else call.kwargs.get("dim")
    )
    given = call.args[0]
    accumulator = max(given.element_size(), 4)
    if given.dtype != call.result.dtype and not given.is_floating_point():
        size = given.numel() * call.result.element_size()
        sums = call.rules.reduction(given, dims, call.result.element_size())
        return around(1, after=[[size, *sums]])
    return around(1, after=[call.rules.reduction(given, dims, accumulator)])


def _softmax_backward(call: Call) -> Timeline | None:
    """Add the product of gradient and output, which is formed before the kernel runs."""
    return around(1, after=[[_bytes(call.args[1])]])


def _layer_norm(call: Call) -> Timeline | None:
    return gpu_norm_scratch.layer_norm(call.args)


def _layer_norm_backward(call: Call) -> Timeline | None:
    return gpu_norm_scratch.layer_norm_backward(call.rules.gpu, call.args)


def _group_norm(call: Call) -> Timeline | None:
    return gpu_norm_scratch.group_norm(call.args)


def _group_norm_backward(call: Call) -> Timeline | None:
    return gpu_norm_scratch.group_norm_backward(call.args)


def _batch_norm(call: Call) -> Timeline | None:
    return gpu_norm_scratch.batch_norm(call.args)


def _batch_norm_backward(call: Call) -> Timeline | None:
    return gpu_norm_scratch.batch_norm_backward(call.args)


def _convolution(call: Call) -> Timeline | None:
    if call.rules.cudnn:
        call.rules.notes[CUDNN] = None
        return None
    return Convolution(call.rules.gpu, call.args, call.result, backward=False).forward()


def _convolution_backward(call: Call) -> Timeline | None:
    if call.rules.cudnn:
        return None
    found = Convolution(call.rules.gpu, call.args, call.args[0], backward=True)
    return found.backward(call.args[0], call.args[10])


def _cumsum(call: Call) -> Timeline | None:
    """Add the copy of a whole-number input in the result's type."""
    given, result = call.args[0], call.result
    return around(1, after=[[_bytes(result)]]) if given.dtype != result.dtype else None


def _index(call: Call) -> Timeline | None:
    return gpu_index_scratch.index(call.args[1])


def _index_put(call: Call) -> Timeline | None:
    given, indices, values = call.args[:3]
    accumulate = bool(call.args[3]) if len(call.args) > 3 else False
    return gpu_index_scratch.index_put(call.rules.gpu, given, indices, values, accumulate)


def _dropout(_: Call) -> Timeline | None:
    """Draw the mask before the result is allocated."""
    timeline = Timeline()
    timeline.results(1, 0)
    return timeline


def _lstm_cell(_: Call) -> Timeline | None:
    """Allocate the workspace before the states."""
    timeline = Timeline()
    timeline.results(2, 0, 1)
    return timeline


def _gru_cell(_: Call) -> Timeline | None:
    timeline = Timeline()
    timeline.results(1, 0)
    return timeline


def _roll(call: Call) -> Timeline | None:
    """Roll dimension by dimension, each time into a new tensor."""
    given, dims = call.args[0], call.args[2] if len(call.args) > 2 else ()
    return around(1, across=[*_copies(given), *[_bytes(given)] * (len(dims) - 1)])


def _embedding(call: Call) -> Timeline | None:
    return around(1, across=_copies(call.args[1]))


def _embedding_backward(call: Call) -> Timeline | None:
    gradient, indices, rows, _, by_frequency = call.args[:5]
    if gpu_index_scratch.is_sorted(indices, by_frequency=by_frequency):
        call.rules.notes[EMBEDDING] = None
    return gpu_index_scratch.embedding_backward(
        call.rules.gpu, gradient, indices, rows, by_frequency=by_frequency
    )


def _loss(call: Call) -> Timeline | None:
    """Add the loss of each element, which exists before it is reduced."""
    reduction = call.args[2] if len(call.args) > 2 else call.kwargs.get("reduction", 1)
    if not reduction:
        return None
    given = call.args[0]
    shape = torch.broadcast_shapes(given.shape, call.args[1].shape)  # type: ignore[no-untyped-call]
    return around(1, after=[[math.prod(shape) * given.element_size()]])


def _binary_cross_entropy(call: Call) -> Timeline | None:
    size = _bytes(call.args[0])
    return around(1, across=[size, size])


def _flash(call: Call) -> Timeline | None:
    return flash_forward(call.rules.gpu, [*call.args, 0.0][:4])


def _flash_backward(call: Call) -> Timeline | None:
    return flash_backward(call.args)


def _efficient(call: Call) -> Timeline | None:
    return efficient_forward(call.args)


def _efficient_backward(call: Call) -> Timeline | None:
    return efficient_backward(call.rules.gpu, call.args)


def _safe_softmax(call: Call) -> Timeline | None:
    """Add the comparison with minus infinity, and for each row whether all of it is masked."""
    scores, dim = call.args[0], call.args[1]
    return around(1, after=[[scores.numel(), scores.numel() // scores.shape[dim], 4]])


_RULES: dict[str, Rule] = {
    "aten::_safe_softmax": _safe_softmax,
    "aten::_scaled_dot_product_flash_attention": _flash,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::sum": _sum,
    "aten::mean": _sum,
    "aten::_softmax_backward_data": _softmax_backward,
    "aten::native_dropout": _dropout,
    "aten::_thnn_fused_lstm_cell": _lstm_cell,
    "aten::_thnn_fused_gru_cell": _gru_cell,
    "aten::cumsum": _cumsum,
    "aten::roll": _roll,
    "aten::index": _index,
    "aten::_index_put_impl_": _index_put,
    "aten::embedding": _embedding,
    "aten::native_layer_norm": _layer_norm,
    "aten::native_layer_norm_backward": _layer_norm_backward,
    "aten::native_group_norm": _group_norm,
    "aten::native_group_norm_backward": _group_norm_backward,
    "aten::native_batch_norm": _batch_norm,
    "aten::native_batch_norm_backward": _batch_norm_backward,
    "aten::convolution": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::embedding_dense_backward": _embedding_backward,
    "aten::mse_loss": _loss,
    "aten::smooth_l1_loss": _loss,
    "aten::huber_loss": _loss,
    "aten::binary_cross_entropy_with_logits": _binary_cross_entropy,
}

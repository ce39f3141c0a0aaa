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

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.workspaces import are_kept, is_lt_product, workspace_bytes
from harness.prediction.mlp.cuda_norms import batch_norm_grid, in_two_steps, two_step_parts
from harness.prediction.module.gpu_attention_scratch import (
    efficient_backward,
    efficient_forward,
    flash_backward,
    flash_forward,
)
from harness.prediction.module.gpu_convolution import Convolution, Scratch
from harness.prediction.module.gpu_reduction import Reduction
from harness.prediction.module.registered_operators import REGISTERED


class Call(NamedTuple):
    """One call of an operator: its arguments, and the shapes of what it returns."""

    rules: "KernelScratch"
    args: Sequence[Any]
    kwargs: Any
    result: Any


Rule = Callable[[Call], Scratch]

_NOTHING = Scratch()
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
    "embedding: the temporary storage of the sort in the backward pass is estimated (about "
    "150 KB; it depends on the CUB version)"
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

    def of(self, name: str, args: Sequence[Any], kwargs: Any, result: Any) -> Scratch:
        """Return the scratch of a call; ``result`` has the shapes of what it returns."""
        operator = name.partition(".")[0]
        registered = REGISTERED.get(name) or REGISTERED.get(operator)
        if registered is not None:
            return Scratch(after=[list(registered(args, result))])
        matrices = _MATMULS.get(operator)
        if matrices is not None:
            return Scratch(after=[_matrix_copies([args[place] for place in matrices])])
        place = _COPIED_GRADIENTS.get(operator)
        if place is not None:
            return Scratch(after=[_copies(args[place])])
        rule = _RULES.get(operator)
        return _NOTHING if rule is None else rule(Call(self, args, kwargs, result))

    def multiplies(self, name: str, args: Sequence[Any]) -> bool:
        """Return whether the operator calls cuBLAS, which needs its workspace then."""
        operator = name.partition(".")[0]
        if operator in _CONVOLUTIONS:
            return not self.cudnn and not _is_depthwise(args, operator)
        return operator in _MATMULS

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


def _is_depthwise(args: Sequence[Any], operator: str) -> bool:
    backward = operator.endswith("backward")
    given, weight = (args[1], args[2]) if backward else (args[0], args[1])
    groups, transposed = (args[9], args[7]) if backward else (args[8], args[6])
    channels = given.shape[1]
    return bool(
        given.dim() == 4
        and not transposed
        and groups == channels > 1
        and weight.shape[0] % channels == 0
    )


def _sum(call: Call) -> Scratch:
    dims = (
        call.args[1]
        if len(call.args) > 1 and isinstance(call.args[1], list | tuple)
        else call.kwargs.get("dim")
    )
    given = call.args[0]
    accumulator = max(given.element_size(), 4)
    if given.dtype != call.result.dtype and not given.is_floating_point():
        size = given.numel() * call.result.element_size()
        return Scratch(
            after=[[size, *call.rules.reduction(given, dims, call.result.element_size())]]
        )
    return Scratch(after=[call.rules.reduction(given, dims, accumulator)])


def _softmax_backward(call: Call) -> Scratch:
    """Add the product of gradient and output, which is formed before the kernel runs."""
    return Scratch(after=[[_bytes(call.args[1])]])


def _layer_norm_backward(call: Call) -> Scratch:
    given, width = call.args[1], math.prod(call.args[2])
    rows = given.numel() // width
    copies = _copies(call.args[0], given)
    wanted = call.args[7] if len(call.args) > 7 else (True, True, True)
    if not in_two_steps(rows, width, call.rules.gpu.multiprocessors) or not (
        wanted[1] or wanted[2]
    ):
        return Scratch(across=copies)
    size, parts = width * given.element_size(), two_step_parts(rows, width)
    partial = torch.empty(parts, width, dtype=given.dtype, device="meta")
    sums = call.rules.reduction(partial, [0], max(given.element_size(), 4))
    return Scratch(across=copies, after=[[size, size, parts * size, parts * size, *sums]])


def _group_norm(call: Call) -> Scratch:
    """Add the factors of input and shift, one of each for a channel of an example."""
    given, count, channels = call.args[0], call.args[3], call.args[4]
    size = count * channels * max(given.element_size(), 4)
    return Scratch(across=_copies(given), after=[[size, size]])


def _group_norm_backward(call: Call) -> Scratch:
    given, count, channels = call.args[1], call.args[5], call.args[6]
    size = count * channels * max(given.element_size(), 4)
    return Scratch(across=_copies(call.args[0], given), after=[[size, size]])


def _batch_norm(call: Call) -> Scratch:
    given, trains = call.args[0], call.args[5]
    return Scratch(after=[_staged(given, 4)]) if trains else _NOTHING


def _batch_norm_backward(call: Call) -> Scratch:
    given: Tensor = call.args[1]
    if given.dim() != 2 or not call.args[9][0]:
        return _NOTHING
    sums = given.shape[1] * max(given.element_size(), 4)
    return Scratch(after=[[sums, sums, *_staged(given, 2)]])


def _staged(given: Tensor, values: int) -> list[int]:
    if given.dim() != 2:
        return []
    rows, width = given.shape
    grid = batch_norm_grid(rows, width)
    if grid.rows == 1:
        return []
    return [values * width * grid.rows * max(given.element_size(), 4), 4 * grid.units]


def _convolution(call: Call) -> Scratch:
    if call.rules.cudnn:
        call.rules.notes[CUDNN] = None
        return _NOTHING
    return Convolution(call.rules.gpu, call.args, call.result, backward=False).forward()


def _convolution_backward(call: Call) -> Scratch:
    if call.rules.cudnn:
        return _NOTHING
    found = Convolution(call.rules.gpu, call.args, call.args[0], backward=True)
    return found.backward(call.args[0], call.args[10])


_SORT_SCRATCH_BYTES = 138_751
_SORTED_FROM = 3072


def _embedding_backward(call: Call) -> Scratch:
    """Add the sort of many indices, and the partial sums of each segment."""
    gradient, indices, rows = call.args[:3]
    count, by_frequency = indices.numel(), bool(call.args[4])
    copies = _copies(gradient)
    if count <= _SORTED_FROM and not by_frequency:
        return Scratch(across=copies)
    call.rules.notes[EMBEDDING] = None
    order = count * indices.element_size()
    segments = min(rows, count)
    partial = count // 10 + segments
    width = gradient.shape[-1]
    sums = partial * width * max(gradient.element_size(), 4)
    return Scratch(
        across=[*copies, order, order],
        before=[[order, _SORT_SCRATCH_BYTES]],
        after=[
            [order, 8, order, 1279],
            [order, 8, 8 * segments, 8 * segments, 8, 8 * partial, sums],
        ],
    )


def _loss(call: Call) -> Scratch:
    """Add the loss of each element, which exists before it is reduced."""
    reduction = call.args[2] if len(call.args) > 2 else call.kwargs.get("reduction", 1)
    if not reduction:
        return _NOTHING
    given = call.args[0]
    shape = torch.broadcast_shapes(given.shape, call.args[1].shape)  # type: ignore[no-untyped-call]
    return Scratch(after=[[math.prod(shape) * given.element_size()]])


def _binary_cross_entropy(call: Call) -> Scratch:
    size = _bytes(call.args[0])
    return Scratch(across=[size, size])


def _flash(call: Call) -> Scratch:
    return flash_forward(call.rules.gpu, [*call.args, 0.0][:4])


def _flash_backward(call: Call) -> Scratch:
    return flash_backward(call.args)


def _efficient(call: Call) -> Scratch:
    return efficient_forward(call.args)


def _efficient_backward(call: Call) -> Scratch:
    return efficient_backward(call.rules.gpu, call.args)


def _safe_softmax(call: Call) -> Scratch:
    """Add the comparison with minus infinity, and for each row whether all of it is masked."""
    scores, dim = call.args[0], call.args[1]
    return Scratch(after=[[scores.numel(), scores.numel() // scores.shape[dim], 4]])


_RULES: dict[str, Rule] = {
    "aten::_safe_softmax": _safe_softmax,
    "aten::_scaled_dot_product_flash_attention": _flash,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::sum": _sum,
    "aten::mean": _sum,
    "aten::_softmax_backward_data": _softmax_backward,
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

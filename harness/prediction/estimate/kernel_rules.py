"""Allocations of CUDA's kernels next to their results, if they decide a step's peak.

PyTorch's meta kernels say what an operator returns. A table says what its CUDA kernel allocates
in addition: copies of matrices that cuBLAS cannot read as they lie, workspaces, and the sums of
reductions, softmax, attention and embeddings. ``register_operator`` adds to it. What is not here is
small next to a step's peak.

Source: aten/src/ATen/native/cuda/Blas.cpp (``prepare_matrix_for_cublas``), SoftMax.cu;
aten/src/ATen/native/transformers/cuda/attention.cu, attention_backward.cu,
flash_attn/flash_api.cpp (``mha_bwd``),
mem_eff_attention/kernel_backward.h (``workspace_size``).
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

from harness.instruments.forward_hooks import tensor_bytes
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction, ceil_div
from harness.prediction.gpu.workspaces import (
    LT_WORKSPACE_BYTES,
    are_kept,
    is_lt_matmul,
    workspace_bytes,
)
from harness.schema.argument_checks import ArgumentError

OperatorRule = Callable[[Sequence[Any], Any], Sequence[int]]
Argument = TypeVar("Argument")
Result = TypeVar("Result")

REGISTERED: dict[str, OperatorRule] = {}

_MATRICES = {
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

_HALVES = (torch.float16, torch.bfloat16)
_FLASH_ROUND = 128
_UNSORTED = 3072
"""Indices that an embedding's gradient takes as they come."""
_ROWS_OF_A_SUM = 10
_LOCK_BYTES = 16
_IN_REGISTERS = 128
LITTLE_SHARED_MEMORY = {(8, 6), (8, 7), (8, 9), (12, 0), (12, 1)}
"""Capabilities with 100 KiB of shared memory, whose kernels work in smaller blocks."""


@overload
def register_operator(
    name: str, scratch: Callable[[Sequence[Tensor], Tensor], Sequence[int]]
) -> None: ...
@overload
def register_operator(
    name: str, scratch: Callable[[Sequence[Argument], Result], Sequence[int]]
) -> None: ...
def register_operator(name: str, scratch: object) -> None:
    """State what a CUDA kernel of your own allocates next to its results.

    Args:
        name: the operator, e.g. ``mylib::attention`` or ``mylib::attention.out``.
        scratch: a function of the operator's arguments and result, which are tensors on the meta
            device, numbers and so on, as the operator takes and returns them. It returns the
            sizes in bytes of the blocks that are alive until the operator returns.

    Returns:
        Nothing; every later prediction of this process uses the rule, also in place of one that
        the harness has.

    Raises:
        ArgumentError: ``name`` has no namespace, or ``scratch`` is not a function.

    >>> import harness
    >>> harness.register_operator("mylib::scan", lambda args, result: [4 * args[0].numel()])
    """
    if "::" not in str(name):
        raise ArgumentError(f"name must be an operator such as mylib::scan, got {name!r}")
    if not callable(scratch):
        kind = type(scratch).__name__
        raise ArgumentError(f"scratch must be a function of arguments and result, got a {kind}")
    REGISTERED[name] = scratch


class KernelRules:
    """The rules for one GPU."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.keeps_workspaces = are_kept()
        self._workspace_bytes = workspace_bytes(gpu.capability, gpu.workspace_config)

    def scratch(self, name: str, args: Sequence[Any], result: Any) -> Sequence[int]:
        """Return the blocks that a call has in addition to its results, in bytes."""
        operator = name.partition(".")[0]
        registered = REGISTERED.get(name) or REGISTERED.get(operator)
        if registered is not None:
            return registered(args, result)
        matrices = _MATRICES.get(operator)
        if matrices is not None:
            return _matrix_copies([args[place] for place in matrices])
        rule = _RULES.get(operator)
        return () if rule is None else rule(self.gpu, args)

    def workspace(self, name: str, args: Sequence[Any], kwargs: Any, result: Any) -> int:
        """Return the workspace of a product, kept or freed at once; 0 for other operators."""
        operator = name.partition(".")[0]
        if operator not in _MATRICES:
            return 0
        if self.keeps_workspaces:
            return self._workspace_bytes
        if operator in ("aten::addmm", "aten::_addmm_activation"):
            bias, _, right = args[:3]
            factor = args[3] if len(args) > 3 else kwargs.get("beta", 1)
            whole = bias.dim() == 1 and bias.shape[0] == right.shape[1] and bias.is_contiguous()
            if whole and factor == 1 and is_lt_matmul(*right.shape):
                return LT_WORKSPACE_BYTES
        return self._workspace_bytes if result.numel() and args[0].numel() else 0


def _matrix_copies(matrices: Sequence[Tensor]) -> list[int]:
    """Return the copies of matrices that cuBLAS cannot read by rows or by columns."""
    return [tensor_bytes(m) for m in matrices if m.dim() >= 2 and m.numel() and not _is_readable(m)]


def _is_readable(matrix: Tensor) -> bool:
    rows, columns = matrix.shape[-2:]
    across, along = matrix.stride()[-2:]
    by_rows = along == 1 and across >= max(1, columns)
    by_columns = across == 1 and along >= max(1, rows)
    return by_rows or by_columns


def _softmax_backward(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Add the product of gradient and output, which is formed before the kernel runs."""
    return [tensor_bytes(args[1])]


def _sum(gpu: Gpu, args: Sequence[Any]) -> list[int]:
    """Add the partial sums of blocks of threads that share an output."""
    given, dims = args[0], args[1] if len(args) > 1 else None
    if not given.numel():
        return []
    over = dims if isinstance(dims, list | tuple) and dims else range(given.dim())
    return Reduction(
        shape=given.shape,
        strides=given.stride(),
        reduced={dim % given.dim() for dim in over} if given.dim() else set(),
        accumulator_bytes=max(given.element_size(), 4),
    ).scratch_bytes(gpu)


def _embedding_backward(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Add the sort of many indices, and the partial sums of each run of equal ones."""
    gradient, indices, rows = args[:3]
    count, element = indices.numel(), indices.element_size()
    if count <= _UNSORTED:
        return []
    partial = count // _ROWS_OF_A_SUM + min(rows, count)
    sums = partial * gradient.shape[-1] * max(gradient.element_size(), 4)
    return [3 * count * element, element * (2 * min(rows, count) + partial), sums]


def _binary_cross_entropy(_: Gpu, args: Sequence[Any]) -> list[int]:
    return [2 * tensor_bytes(args[0])]


def _safe_softmax(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Add the comparison with minus infinity, and for each row whether all of it is masked."""
    scores, dim = args[0], args[1]
    return [scores.numel(), scores.numel() // scores.shape[dim]]


def _flash_backward(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Add the copies, each row's sum and the float32 gradient of the query."""
    gradient, query, key, value, output = args[:5]
    batch, heads, rows, width = query.shape
    sums = 4 * batch * heads * ceil_div(rows, _FLASH_ROUND) * _FLASH_ROUND
    copies = [tensor_bytes(t) for t in (gradient, output) if not _is_by_rows(t)]
    multiple = 32 if width <= 128 else 64
    return [
        *copies, sums, sums * ceil_div(width, multiple) * multiple, *_expanded(heads, key, value)
    ]  # fmt: skip


def _cudnn_backward(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Add each row's sum and the float32 gradient of the query, as the dry run does."""
    query: Tensor = args[1]
    return [4 * query.numel() // query.shape[-1], 4 * query.numel()]


def _efficient_forward(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Add a wide output in float32, where a 16-bit one does not stay in registers."""
    query, _, value = args[:3]
    is_wide = query.dtype in _HALVES and value.shape[-1] > _IN_REGISTERS
    return [4 * query.numel() // query.shape[-1] * value.shape[-1]] if is_wide else []


def _efficient_backward(gpu: Gpu, args: Sequence[Any]) -> list[int]:
    """Add the copy of the gradient, each row's sum and the workspace of the kernel."""
    gradient, query, key = args[:3]
    batch, heads, rows, _ = query.shape
    sums = 4 * batch * heads * rows
    workspace = batch * heads * _efficient_workspace(gpu, query, key.shape[2])
    if query.dtype not in _HALVES:
        workspace = max(workspace, 4 * gradient.numel() + sums)
    copies = [] if _is_by_rows(gradient) else [tensor_bytes(gradient)]
    return [*copies, sums, workspace, *_expanded(heads, *args[2:4])]


def _efficient_workspace(gpu: Gpu, query: Tensor, keys: int) -> int:
    """Return the bytes of one head's workspace: the blocks of the query's gradient."""
    rows, width = query.shape[2:]
    half, ampere = query.dtype in _HALVES, gpu.capability >= (8, 0)
    little = gpu.capability in LITTLE_SHARED_MEMORY
    block, columns = (128, 64) if width > 64 and (half or (ampere and not little)) else (64, 64)
    is_wide = (96 if little else 64) < width <= _IN_REGISTERS
    if half and ampere and is_wide:
        block, columns = (64, 64) if little else (block, 128)
    of_query = (
        ceil_div(rows, block) * ceil_div(width, columns) * (4 * block * columns + _LOCK_BYTES)
    )
    if not half or (width <= _IN_REGISTERS and not (little and is_wide)):
        return of_query
    return of_query + 8 * ceil_div(keys, columns) * columns * ceil_div(width, block) * block


def _expanded(heads: int, *shared: Tensor) -> list[int]:
    """Return the gradients of keys and values for each head, where heads share them."""
    return [tensor_bytes(t) // t.shape[1] * heads for t in shared if t.shape[1] != heads]


def _is_by_rows(tensor: Tensor) -> bool:
    """Return whether batch, row, head and width follow one another in memory."""
    return tensor.transpose(1, 2).is_contiguous()


_RULES: dict[str, Callable[[Gpu, Sequence[Any]], Sequence[int]]] = {
    "aten::_softmax_backward_data": _softmax_backward,
    "aten::_safe_softmax": _safe_softmax,
    "aten::sum": _sum,
    "aten::mean": _sum,
    "aten::embedding_dense_backward": _embedding_backward,
    "aten::binary_cross_entropy_with_logits": _binary_cross_entropy,
    "aten::_scaled_dot_product_cudnn_attention_backward": _cudnn_backward,
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention": _efficient_forward,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
}
"""By operator, the rule for the arguments of a call."""

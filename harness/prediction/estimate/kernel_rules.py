"""Rules for the blocks that CUDA kernels allocate in addition to their results.

PyTorch's meta kernels create only the results of an operator. The tables in this file add other
blocks of CUDA kernels: copies of matrices that cuBLAS cannot read in place, workspaces, and
temporary results of softmax and attention. ``register_operator`` adds a rule. Blocks that are small
compared with a step's peak are left out.

Source: aten/src/ATen/native/cuda/Blas.cpp (``prepare_matrix_for_cublas``), SoftMax.cu;
aten/src/ATen/native/transformers/cuda/attention_backward.cu.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from torch import Tensor

from harness.instruments.forward_hooks import tensor_bytes
from harness.prediction.estimate.convolution_workspaces import convolution_workspaces
from harness.prediction.gpu.catalogue import Gpu
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
"""Operators that call cuBLAS, with the positions of the matrices among their arguments."""


@overload
def register_operator(
    name: str, scratch: Callable[[Sequence[Tensor], Tensor], Sequence[int]]
) -> None: ...
@overload
def register_operator(
    name: str, scratch: Callable[[Sequence[Argument], Result], Sequence[int]]
) -> None: ...
def register_operator(name: str, scratch: object) -> None:
    """Declare the blocks that your own CUDA kernel allocates in addition to its results.

    Args:
        name: the operator, such as ``mylib::attention`` or ``mylib::attention.out``.
        scratch: function that is called with the operator's arguments and result, whose tensors are
            meta tensors. The function returns the size in bytes of each block that is freed when
            the operator returns.

    Returns:
        None. Later predictions in this process use the rule in place of a built-in rule.

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
    """Applies the rules for temporary blocks on one GPU to operator calls."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.keeps_workspaces = are_kept()
        self._workspace_bytes = workspace_bytes(gpu.capability, gpu.workspace_config)

    def scratch(self, name: str, args: Sequence[Any], result: Any) -> Sequence[int]:
        """Return the size in bytes of each temporary block that a call allocates."""
        operator = name.partition(".")[0]
        registered = REGISTERED.get(name) or REGISTERED.get(operator)
        if registered is not None:
            return registered(args, result)
        matrices = _MATRICES.get(operator)
        if matrices is not None:
            return _matrix_copies([args[place] for place in matrices])
        rule = _RULES.get(operator)
        return () if rule is None else rule(self.gpu, args)

    def workspaces(self, name: str, args: Sequence[Any], result: Any) -> Sequence[int]:
        """Return the workspace bytes for each result of a convolution; [] for other operators."""
        is_registered = name in REGISTERED or name.partition(".")[0] in REGISTERED
        return [] if is_registered else convolution_workspaces(self.gpu, name, args, result)

    def workspace(self, name: str, args: Sequence[Any], kwargs: Any, result: Any) -> int:
        """Return the bytes of a matmul's cuBLAS workspace; 0 for other operators."""
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
    """Return the bytes of each matrix that is copied because cuBLAS cannot read it in place."""
    return [tensor_bytes(m) for m in matrices if m.dim() >= 2 and m.numel() and not _is_readable(m)]


def _is_readable(matrix: Tensor) -> bool:
    rows, columns = matrix.shape[-2:]
    across, along = matrix.stride()[-2:]
    by_rows = along == 1 and across >= max(1, columns)
    by_columns = across == 1 and along >= max(1, rows)
    return by_rows or by_columns


def _safe_softmax(_: Gpu, args: Sequence[Any]) -> list[int]:
    """Return the bytes of two masks: one has a byte per score, the other a byte per row."""
    scores, dim = args[0], args[1]
    return [scores.numel(), scores.numel() // scores.shape[dim]]


def _attention_backward(multiple: int, _: Gpu, args: Sequence[Any]) -> list[int]:
    """Return the bytes of the temporary blocks in the backward pass of attention.

    The gradient of the output is copied unless its memory is ordered by rows and then by heads. The
    gradient of the query is in float32, with head sizes padded to ``multiple``. If heads share keys
    and values, each head first has its own gradients of the keys and values.
    """
    gradient, query, *shared = args[:4]
    heads, width = query.shape[1], query.shape[3]
    copies = [] if gradient.transpose(1, 2).is_contiguous() else [tensor_bytes(gradient)]
    sums = 4 * query.numel() // width
    expanded = [tensor_bytes(t) // t.shape[1] * heads for t in shared if t.shape[1] != heads]
    return [*copies, sums, sums * -(-width // multiple) * multiple, *expanded]


_RULES: dict[str, Callable[[Gpu, Sequence[Any]], Sequence[int]]] = {
    # The product of gradient and output, which is formed before the kernel runs.
    "aten::_softmax_backward_data": lambda _, args: [tensor_bytes(args[1])],
    "aten::_safe_softmax": _safe_softmax,
    # A gradient for each pair of points, which is summed afterwards.
    "aten::_cdist_backward": lambda _, args: [tensor_bytes(args[1]) * args[2].shape[-2]],
    "aten::binary_cross_entropy_with_logits": lambda _, args: [2 * tensor_bytes(args[0])],
    **{
        f"aten::_scaled_dot_product_{kernel}_attention_backward": partial(_attention_backward, size)
        for kernel, size in {"cudnn": 1, "flash": 32, "efficient": 64}.items()
    },
}
"""For each operator, a function that returns the temporary block sizes of a call."""

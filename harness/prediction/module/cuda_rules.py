"""What CUDA does otherwise, for steps on fake tensors of the CPU.

A fake tensor can say that it lies on a GPU, but autograd wants the device's guard, which a
CPU-only build of PyTorch lacks. So the step runs on fake tensors of the CPU, and what CUDA does
otherwise is put in its place: functions with fused kernels, optimizers in their multi-tensor
form, and the blocks that CUDA's kernels take below the dispatcher.

Source: aten/src/ATen/native/Dropout.cpp, transformers/cuda/sdp_utils.cpp and attention.cu,
cuda/Reduce.cuh, cuda/Normalization.cuh, cuda/layer_norm_kernel.cu, ConvolutionMM2d.cu;
torch/optim/optimizer.py (``_default_to_fused_or_foreach``).
"""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.workspaces import workspace_bytes
from harness.prediction.mlp.cuda_norms import batch_norm_grid, in_two_steps, two_step_parts
from harness.prediction.mlp.cuda_reduction import ColumnSums

CUDNN = "convolutions: cuDNN's workspaces are not known; none is counted"
ATTENTION = (
    "attention: the memory-efficient kernel is assumed, without what its backward pass takes below"
)

_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addbmm"}
_ATTENTION = "aten::_scaled_dot_product_efficient_attention"
_HALF = (torch.float16, torch.bfloat16)


@contextmanager
def cuda_functions() -> Iterator[None]:
    """Put CUDA's ways in place of the CPU's in ``torch.nn.functional`` and ``torch.optim``.

    Dropout and attention run fused kernels; optimizers take their multi-tensor form by default.
    """
    optimizer = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it
    types, devices = "_foreach_supported_types", "_get_foreach_kernels_supported_devices"
    with (
        mock.patch.object(functional, "dropout", _dropout),
        mock.patch.object(functional, "scaled_dot_product_attention", _attention),
        mock.patch.object(optimizer, types, [Tensor, nn.Parameter, FakeTensor]),
        mock.patch.object(optimizer, devices, return_value=["cpu", "cuda"]),
    ):
        yield


_cpu_dropout = functional.dropout
_cpu_attention = functional.scaled_dot_product_attention


def _dropout(given: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Draw mask and product in one kernel, as ``is_fused_kernel_acceptable`` says."""
    if inplace or not training or not 0 < p < 1 or not given.numel():
        return _cpu_dropout(given, p, training, inplace)
    return torch.native_dropout(given, p, training)[0]


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **others: Any,
) -> Tensor:
    """Run the memory-efficient kernel, which float32 gets; anything else as it comes."""
    plain = query.dim() == 4 and attn_mask is None and not others.get("enable_gqa")
    if not plain or query.dtype in _HALF or query.shape[-1] % 4:
        return _cpu_attention(query, key, value, attn_mask, dropout_p, is_causal, **others)
    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    logsumexp = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    scale = others.get("scale")
    found = kernel(query, key, value, None, logsumexp, dropout_p, is_causal, scale=scale)
    return found[0]  # type: ignore[no-any-return]


def lies_on_host(tensor: Tensor, operator: str, phase: str) -> bool:
    """Return whether a tensor made in ``phase`` would lie in the host's memory.

    Optimizers keep their step counters there, and make scalars of Python's numbers; attention
    keeps the state of its random numbers there.
    """
    return tensor.dim() == 0 and (phase == "optimizer" or operator == _ATTENTION)


class Below:
    """Tells the blocks that CUDA's kernels take below the dispatcher, operator by operator."""

    def __init__(self, gpu: Gpu, *, cudnn: bool) -> None:
        self._gpu = gpu
        self._cudnn = cudnn
        self._threads: set[bool] = set()
        self.kept_bytes = 0
        self.notes: set[str] = set()
        self._tellers: dict[str, Callable[[Sequence[Any]], list[int]]] = {
            "aten::sum": self._sum,
            "aten::sum.dim_IntList": self._sum,
            "aten::mean": self._sum,
            "aten::native_batch_norm": self._batch_norm,
            "aten::native_batch_norm_backward": self._batch_norm_backward,
            "aten::native_layer_norm_backward": self._layer_norm_backward,
            "aten::convolution_backward": self._convolution_backward,
        }

    def to_keep(self, operator: str, phase: str) -> int:
        """Return the bytes of the workspace that a product makes; 0 where there is one."""
        name = operator.partition(".")[0]
        multiplies = name in _PRODUCTS or (not self._cudnn and name.startswith("aten::convolution"))
        thread = phase == "backward"
        if not multiplies or thread in self._threads:
            return 0
        self._threads.add(thread)
        size = workspace_bytes(self._gpu.capability, self._gpu.workspace_config)
        self.kept_bytes += size
        return size

    def scratch(self, operator: str, args: Sequence[Any], result: Any) -> list[int]:
        """Return blocks that a kernel takes beside its result and returns, in order."""
        if "efficient_attention" in operator:
            self.notes.add(ATTENTION)
        if operator == "aten::convolution":
            given, weight, _, stride, padding = args[:5]
            return self._columns(given, weight, stride, padding, result)
        teller = self._tellers.get(operator)
        return [size for size in teller(args) if size] if teller else []

    def _sum(self, args: Sequence[Any]) -> list[int]:
        """Return the scratch of a sum over the leading dimensions, or all, where contiguous."""
        given: Tensor = args[0]
        dims = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else None
        summed = sorted(d % given.dim() for d in dims) if dims else list(range(given.dim()))
        if not given.is_contiguous() or summed != list(range(len(summed))) or not given.numel():
            return []
        rows = math.prod(given.shape[: len(summed)])
        return self._column_sums(rows, given.numel() // rows, given.element_size())

    def _column_sums(self, rows: int, columns: int, element_bytes: int) -> list[int]:
        """Return one launch's blocks, the largest, where halves follow one another."""
        sums = ColumnSums(
            rows=rows,
            columns=columns,
            element_bytes=element_bytes,
            multiprocessors=self._gpu.multiprocessors,
            threads_per_multiprocessor=self._gpu.threads_per_multiprocessor,
        )
        return [sums.total_bytes, *max(sums.launches())]

    def _batch_norm(self, args: Sequence[Any]) -> list[int]:
        given, trains = args[0], args[5]
        if trains:
            return self._staged(given, 4)
        return 2 * [given.shape[1] * max(given.element_size(), 4)]  # copies of what was running

    def _batch_norm_backward(self, args: Sequence[Any]) -> list[int]:
        given: Tensor = args[1]
        if given.dim() != 2:
            return []
        sums = given.shape[1] * max(given.element_size(), 4)
        return [sums, sums, *self._staged(given, 2)]

    def _staged(self, given: Tensor, values: int) -> list[int]:
        if given.dim() != 2:
            return []
        rows, width = given.shape
        grid = batch_norm_grid(rows, width)
        if grid.rows == 1:
            return []
        return [values * width * grid.rows * max(given.element_size(), 4), 4 * grid.units]

    def _layer_norm_backward(self, args: Sequence[Any]) -> list[int]:
        given, width = args[1], math.prod(args[2])
        rows = given.numel() // width
        if not in_two_steps(rows, width, self._gpu.multiprocessors):
            return []
        size, parts = width * given.element_size(), two_step_parts(rows, width)
        sums = self._column_sums(parts, width, given.element_size())
        return [size, size, parts * size, parts * size, *sums]

    def _convolution_backward(self, args: Sequence[Any]) -> list[int]:
        gradient, given, weight, _, stride, padding = args[:6]
        return self._columns(given, weight, stride, padding, gradient)

    def _columns(
        self,
        given: Tensor,
        weight: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        output: Tensor,
    ) -> list[int]:
        """Return the unfolded input of one example, which PyTorch's own kernel multiplies."""
        if self._cudnn:
            self.notes.add(CUDNN)
            return []
        kernel = weight.shape[2:]
        if set(kernel) == {1} and set(stride) == {1} and set(padding) == {0}:
            return []
        return [
            given.shape[1] * math.prod(kernel) * math.prod(output.shape[2:]) * given.element_size()
        ]

"""Scratch of PyTorch's own convolution kernels, which run where cuDNN does not.

A dense convolution unfolds one example at a time into columns and multiplies them; a depthwise
one has a kernel of its own; groups are cut out, convolved one by one and joined.

Source: aten/src/ATen/native/Convolution.cpp (``_select_conv_backend``, ``_convolution``),
cuda/ConvolutionMM2d.cu, cuda/NaiveConvolutionTranspose2d.cu, cuda/NaiveDilatedConvolution.cu,
cuda/DepthwiseConv2d.cu.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.module.gpu_reduction import Reduction
from harness.prediction.torch_rules import BIAS_BY_PRODUCT, rule_of


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Blocks that a kernel allocates next to its results, in order.

    Attributes:
        across: allocated before the results and freed after the operator.
        before: groups allocated and freed one after another before the results.
        after: the same once the results are allocated.

    """

    across: Sequence[int] = ()
    before: Sequence[Sequence[int]] = ()
    after: Sequence[Sequence[int]] = ()


class Convolution:
    """One call of ``aten::convolution`` or of its backward operator."""

    def __init__(self, gpu: Gpu, args: Sequence[Any], output: Tensor, *, backward: bool) -> None:
        given, weight = (args[1], args[2]) if backward else (args[0], args[1])
        rest = args[4:10] if backward else args[3:9]
        stride, padding, dilation, self._transposed, _, self._groups = rest
        self._gpu = gpu
        self._given: Tensor = given
        self._weight: Tensor = weight
        self._output = output
        one = given.dim() == 3
        self._kernel = [1] * one + list(weight.shape[2:])
        self._stride, self._padding = _spread(stride, one, 1), _spread(padding, one, 0)
        self._dilation = _spread(dilation, one, 1)
        self._element = given.element_size()

    @property
    def is_depthwise(self) -> bool:
        """Whether the depthwise kernel runs."""
        channels = self._given.shape[1]
        return (
            len(self._kernel) == 2
            and not self._transposed
            and self._groups == channels > 1
            and self._weight.shape[0] % channels == 0
        )

    @property
    def _is_dilated(self) -> bool:
        return max(self._dilation, default=1) > 1 or len(self._kernel) == 3

    @property
    def _is_matmul(self) -> bool:
        """Whether the input needs no unfolding."""
        shapes = set(self._kernel), set(self._stride), set(self._padding)
        return shapes == ({1}, {1}, {0})

    def forward(self) -> Scratch:
        """Return what the forward pass allocates next to its output."""
        copies = [_bytes(t) for t in (self._given, self._weight) if not t.is_contiguous()]
        if self.is_depthwise:
            return Scratch(across=copies)
        columns = self._columns()
        if self._transposed:
            ones = math.prod(self._output.shape[2:]) * self._element
            columns = [*columns, ones]
        if self._groups == 1:
            return Scratch(across=copies, after=[columns] if columns else [])
        part = _bytes(self._output) // self._groups
        slice_ = _bytes(self._given) // self._groups
        return Scratch(across=[*copies, *[part] * self._groups], before=[[slice_, *columns]])

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Scratch:
        """Return what the backward pass allocates next to the gradients.

        Args:
            gradient: the gradient of the output.
            wanted: whether the gradients of input, weight and bias are asked for.

        """
        operands = (gradient, self._given, self._weight)
        copies = [_bytes(t) for t in operands if not t.is_contiguous() and self._groups == 1]
        copies = copies or [_bytes(gradient)] * (self.is_depthwise and not gradient.is_contiguous())
        bias = [self._bias_sum(gradient)] if wanted[2] else []
        if self.is_depthwise:
            return Scratch(across=copies, after=[b for b in bias if b])
        columns = self._columns(always=True)
        if self._groups == 1:
            if self._is_dilated and wanted[2]:
                by_product = rule_of("dilated-convolution-bias") is BIAS_BY_PRODUCT
                ones = [gradient.shape[1] * self._element] * by_product
                bias = [[*columns, *ones]]
            return Scratch(across=copies, after=[g for g in [columns, *bias] if g])
        results = [
            _bytes(t) // self._groups
            for t, want in ((self._given, wanted[0]), (self._weight, wanted[1]))
            if want
        ] + [gradient.shape[1] * self._element // self._groups] * bool(wanted[2])
        parts = [size for size in results for _ in range(self._groups)]
        slices = [_bytes(t) // self._groups for t in (gradient, self._given)]
        return Scratch(across=[*copies, *parts], before=[[*slices, *columns]])

    def _columns(self, *, always: bool = False) -> list[int]:
        """Return the unfolded input of one example; a plain 1 x 1 kernel may do without."""
        channels = self._given.shape[1] // self._groups
        out = self._output.shape[2:]
        if self._transposed:
            channels, out = self._weight.shape[1], self._given.shape[2:]
        elif not always and not self._is_dilated and self._is_matmul:
            return []
        return [channels * math.prod(self._kernel) * math.prod(out) * self._element]

    def _bias_sum(self, gradient: Tensor) -> list[int]:
        return Reduction(
            shape=gradient.shape,
            strides=(gradient if self.is_depthwise else gradient.contiguous()).stride(),
            reduced=[0, *range(2, gradient.dim())],
            accumulator_bytes=max(self._element, 4),
        ).scratch_bytes(self._gpu)


def _spread(values: Sequence[int], is_one_dimensional: bool, filler: int) -> list[int]:
    return [filler] * is_one_dimensional + list(values)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

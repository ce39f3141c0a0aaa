"""What PyTorch's own convolution kernels allocate, in order; they run where cuDNN does not.

A dense convolution unfolds one example at a time into columns and multiplies them; a depthwise
one has a kernel of its own; groups are cut out, convolved one by one and joined.

Source: aten/src/ATen/native/Convolution.cpp (``_select_conv_backend``, ``_convolution``),
cuda/ConvolutionMM2d.cu, cuda/NaiveConvolutionTranspose2d.cu, cuda/NaiveDilatedConvolution.cu,
cuda/DepthwiseConv2d.cu.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.reduction import Reduction
from harness.prediction.module.kernel_timeline import Timeline
from harness.prediction.torch_rules import BIAS_BY_PRODUCT, rule_of


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

    def forward(self) -> Timeline:
        """Return what the forward pass allocates."""
        timeline = Timeline()
        copies = timeline.take(*_copies(self._given, self._weight))
        if self.is_depthwise:
            timeline.results(0)
        elif self._groups == 1:
            timeline.results(0)
            self._multiply(timeline)
        else:
            parts = []
            for _ in range(self._groups):
                slice_ = timeline.take(self._slice(self._given))
                parts += timeline.take(_bytes(self._output) // self._groups)
                self._multiply(timeline)
                timeline.free(slice_)
            timeline.results(0)
            timeline.free(parts[::-1])
        timeline.free(copies)
        return timeline

    def _multiply(self, timeline: Timeline) -> None:
        """Unfold the examples one by one, and multiply."""
        columns = self._columns()
        if self._transposed:
            ones = math.prod(self._output.shape[2:]) * self._element
            columns = [*columns, ones]
        blocks = timeline.take(*columns)
        timeline.product()
        timeline.free(blocks)

    def backward(self, gradient: Tensor, wanted: Sequence[bool]) -> Timeline:
        """Return what the backward pass allocates.

        Args:
            gradient: the gradient of the output.
            wanted: whether the gradients of input, weight and bias are asked for.

        """
        timeline = Timeline()
        if self.is_depthwise:
            self._depthwise_backward(timeline, gradient, wanted)
            return timeline
        copies = timeline.take(*_copies(self._given, self._weight))
        if self._groups == 1:
            copies += timeline.take(*_copies(gradient))
            bias = [] if self._is_dilated else self._bias_sum(gradient)
            self._dense_backward(timeline, wanted, bias, timeline.results)
        else:
            self._grouped_backward(timeline, gradient, wanted)
        timeline.free(copies)
        return timeline

    def _depthwise_backward(
        self, timeline: Timeline, gradient: Tensor, wanted: Sequence[bool]
    ) -> None:
        copy = timeline.take(*_copies(gradient))
        if wanted[1]:
            given = timeline.take(*_copies(self._given))
            timeline.results(1)
            timeline.free(given)
        if wanted[0]:
            weight = timeline.take(*_copies(self._weight))
            timeline.results(0)
            timeline.free(weight)
        timeline.free(copy)
        if wanted[2]:
            timeline.results(2)
            timeline.pass_by(*self._bias_sum(gradient))

    def _dense_backward(
        self,
        timeline: Timeline,
        wanted: Sequence[bool],
        bias: Sequence[int],
        allocate: Callable[[int], object],
    ) -> None:
        """Write down a backward pass without groups.

        Args:
            timeline: where to.
            wanted: which gradients are asked for.
            bias: the scratch of the bias gradient's sum.
            allocate: allocates the gradient of input (0), weight (1) or bias (2).

        """
        sizes = self._columns(always=True)
        if self._is_dilated or self._transposed:
            for place in (1, 2, 0) if self._transposed else (0, 1, 2):
                if wanted[place]:
                    allocate(place)
            columns = timeline.take(*sizes)
            timeline.product()
            if wanted[2] and self._is_dilated and not _bias_by_product():
                for _ in range(self._given.shape[0]):
                    timeline.pass_by(self._output.shape[1] * self._element)
            timeline.free(columns)
            if wanted[2]:
                self._late_bias(timeline, sizes, bias)
            return
        columns = []
        if wanted[0]:
            allocate(0)
            columns = timeline.take(*sizes)
            timeline.product()
        if wanted[2]:
            allocate(2)
            timeline.pass_by(*bias)
        if wanted[1]:
            allocate(1)
            columns = columns or timeline.take(*sizes)
            timeline.product()
        timeline.free(columns)

    def _late_bias(self, timeline: Timeline, columns: Sequence[int], bias: Sequence[int]) -> None:
        """Form the bias gradient of a transposed convolution, or of a dilated one by a product."""
        if self._transposed or not self._is_dilated:
            timeline.pass_by(*bias)
        elif _bias_by_product():
            timeline.pass_by(*columns, self._output.shape[1] * self._element)

    def _grouped_backward(
        self, timeline: Timeline, gradient: Tensor, wanted: Sequence[bool]
    ) -> None:
        """Write down the groups one by one, then the joining of their gradients."""
        bias_bytes = gradient.shape[1] * self._element
        sizes = [_bytes(self._given), _bytes(self._weight), bias_bytes]
        parts: dict[int, list[int]] = {0: [], 1: [], 2: []}

        def allocate(place: int) -> None:
            parts[place] += timeline.take(sizes[place] // self._groups)

        for _ in range(self._groups):
            slices = timeline.take(self._slice(gradient), self._slice(self._given))
            self._dense_backward(timeline, wanted, [], allocate)
            timeline.free(slices)
        timeline.results(*(place for place in (0, 1, 2) if wanted[place]))
        for place in (2, 1, 0):
            timeline.free(parts[place][::-1])

    def _slice(self, tensor: Tensor) -> int:
        """Return the bytes of the copy of a group's channels; those of one example need none."""
        return _bytes(tensor) // self._groups if tensor.shape[0] != 1 else 0

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


def _bias_by_product() -> bool:
    return rule_of("dilated-convolution-bias") is BIAS_BY_PRODUCT


def _copies(*tensors: Tensor) -> list[int]:
    """Return the copies of tensors that are not contiguous."""
    return [_bytes(t) for t in tensors if not t.is_contiguous()]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()

"""Convolutions, samplers, losses and dropout of cuDNN and of CUDA alone, by the CPU's functions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.dry_runs.cpu_equivalents.table import computes_for


def _convolved(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    still = [0] * len(padding)
    return torch.convolution(values, weight, bias, stride, padding, dilation, False, still, groups)


@computes_for("cudnn_convolution")
def _convolution(
    values: Tensor,
    weight: Tensor,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *_: bool,
) -> Tensor:
    return _convolved(values, weight, None, stride, padding, dilation, groups)


@computes_for("cudnn_convolution_transpose")
def _transposed(
    values: Tensor,
    weight: Tensor,
    padding: Sequence[int],
    more: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    *_: bool,
) -> Tensor:
    return torch.convolution(values, weight, None, stride, padding, dilation, True, more, groups)


@computes_for("cudnn_convolution_relu")
def _convolution_relu(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    return _convolved(values, weight, bias, stride, padding, dilation, groups).relu()


@computes_for("cudnn_convolution_add_relu")
def _convolution_add_relu(
    values: Tensor,
    weight: Tensor,
    added: Tensor,
    alpha: float | None,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    made = _convolved(values, weight, bias, stride, padding, dilation, groups)
    return (made + (1 if alpha is None else alpha) * added).relu()


@computes_for("_conv_depthwise2d", "conv_depthwise3d")
def _depthwise(
    values: Tensor,
    weight: Tensor,
    _: Sequence[int],
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    return _convolved(values, weight, bias, stride, padding, dilation, values.shape[1])


@computes_for("cudnn_grid_sampler")
def _sampled(values: Tensor, grid: Tensor) -> Tensor:
    return torch.grid_sampler(values, grid, 0, 0, True)


@computes_for("cudnn_grid_sampler_backward")
def _sampled_gradients(values: Tensor, grid: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    made: tuple[Tensor, ...] = torch.ops.aten.grid_sampler_2d_backward(
        gradient, values, grid, 0, 0, True, [True, True]
    )
    return made


@computes_for("cudnn_affine_grid_generator")
def _affine_grid(theta: Tensor, *sizes: int) -> Tensor:
    return torch.affine_grid_generator(theta, sizes, True)


@computes_for("cudnn_affine_grid_generator_backward")
def _affine_grid_gradient(gradient: Tensor, *sizes: int) -> Tensor:
    made: Tensor = torch.ops.aten.affine_grid_generator_backward(gradient, sizes, True)
    return made


@computes_for("_cudnn_ctc_loss", "_cudnn_ctc_loss.Tensor")
def _ctc_loss(
    probabilities: Tensor,
    targets: Tensor,
    lengths: Sequence[int] | Tensor,
    target_lengths: Sequence[int] | Tensor,
    blank: int,
    _: bool,
    zero_infinity: bool,
) -> tuple[Tensor, Tensor]:
    ours: tuple[Any, ...] = (targets.long(), lengths, target_lengths)
    loss, alpha = torch.ops.aten._ctc_loss(probabilities, *ours, blank, zero_infinity)
    gradient = torch.ops.aten._ctc_loss_backward(
        torch.ones_like(loss), probabilities, *ours, loss, alpha, blank, zero_infinity
    )
    return loss, gradient


@computes_for("_fused_dropout")
def _dropped(values: Tensor, kept: float, _: object = None) -> tuple[Tensor, Tensor]:
    mask = torch.empty_like(values, dtype=torch.uint8).bernoulli_(kept)
    return values * mask / kept, mask


@computes_for("_masked_scale")
def _masked(values: Tensor, mask: Tensor, scale: float) -> Tensor:
    return values * mask * scale

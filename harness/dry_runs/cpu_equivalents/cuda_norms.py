"""Norms that only CUDA has: cuDNN's and synchronized batch norm, and RMS norm's gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.dry_runs.cpu_equivalents.table import computes_for, unread, wide


def _by_channel(numbers: Tensor, like: Tensor) -> Tensor:
    """Return numbers of channels in a shape that can be broadcast."""
    return numbers.view(1, -1, *[1] * (like.dim() - 2))


def _other_dimensions(tensor: Tensor) -> list[int]:
    return [0, *range(2, tensor.dim())]


@computes_for("cudnn_batch_norm")
def _cudnn_batch_norm(
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    epsilon: float,
) -> tuple[Tensor, ...]:
    made = torch.native_batch_norm(
        values, weight, bias, mean, variance, training, momentum, epsilon
    )
    return (*made, unread())


@computes_for("cudnn_batch_norm_backward")
def _cudnn_batch_norm_backward(
    values: Tensor,
    gradient: Tensor,
    weight: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    saved_mean: Tensor | None,
    saved_variance: Tensor | None,
    epsilon: float,
    _: Tensor,
) -> tuple[Tensor, ...]:
    made: tuple[Tensor, ...] = torch.ops.aten.native_batch_norm_backward(
        gradient, values, weight, mean, variance, saved_mean, saved_variance, True, epsilon,
        [True, True, True],
    )  # fmt: skip
    return made


@computes_for("batch_norm_stats")
def _statistics(values: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(wide(values), _other_dimensions(values), correction=0)
    return mean, (variance + epsilon).rsqrt()


@computes_for("batch_norm_elemt")
def _normalized(
    values: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    inverse: Tensor,
    _: float,
) -> Tensor:
    made = (wide(values) - _by_channel(mean, values)) * _by_channel(inverse, values)
    if weight is not None:
        made = made * _by_channel(weight, values)
    if bias is not None:
        made = made + _by_channel(bias, values)
    return made.to(values.dtype)


@computes_for("batch_norm_gather_stats_with_counts")
def _gathered_with_counts(
    _: Tensor,
    means: Tensor,
    inverses: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    momentum: float,
    epsilon: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Combine the statistics of ranks, and update the running ones."""
    share = counts.to(means.dtype).view(-1, 1)
    total = share.sum()
    mean = (means * share).sum(0) / total
    squares = (inverses**-2 - epsilon + (means - mean) ** 2) * share
    variance = squares.sum(0) / total
    if running_mean is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    if running_variance is not None:
        unbiased = variance * total / (total - 1)
        running_variance.lerp_(unbiased.to(running_variance.dtype), momentum)
    return mean, (variance + epsilon).rsqrt()


@computes_for("batch_norm_gather_stats")
def _gathered(
    values: Tensor,
    means: Tensor,
    inverses: Tensor,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    momentum: float,
    epsilon: float,
    count: int,
) -> tuple[Tensor, Tensor]:
    counts = torch.full((len(means),), count)
    return _gathered_with_counts(  # type: ignore[no-any-return]
        values, means, inverses, running_mean, running_variance, momentum, epsilon, counts
    )


@computes_for("batch_norm_backward_reduce")
def _reduced_gradients(
    gradient: Tensor,
    values: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    *_: bool,
) -> tuple[Tensor, ...]:
    others = _other_dimensions(values)
    centred = wide(values) - _by_channel(mean, values)
    total = wide(gradient).sum(others)
    products = (wide(gradient) * centred).sum(others)
    kind = total.dtype if weight is None else weight.dtype
    return total, products, (products * inverse).to(kind), total.to(kind)


@computes_for("batch_norm_backward_elemt")
def _input_gradient(
    gradient: Tensor,
    values: Tensor,
    mean: Tensor,
    inverse: Tensor,
    weight: Tensor | None,
    total: Tensor,
    products: Tensor,
    counts: Tensor,
) -> Tensor:
    number = counts.sum()
    centred = wide(values) - _by_channel(mean, values)
    slope = _by_channel(products * inverse**2 / number, values)
    made = wide(gradient) - _by_channel(total / number, values) - centred * slope
    factor = inverse if weight is None else inverse * weight
    return (made * _by_channel(factor, values)).to(values.dtype)


@computes_for("_fused_rms_norm_backward")
def _rms_norm_gradients(
    gradient: Tensor,
    values: Tensor,
    shape: Sequence[int],
    inverse: Tensor,
    weight: Tensor | None,
    _: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    own = tuple(range(-len(shape), 0))
    others = tuple(range(values.dim() - len(shape)))
    inverse = inverse.view(*values.shape[: len(others)], *[1] * len(own))
    normalized, given = wide(values) * inverse, wide(gradient)
    scaled = given if weight is None else given * weight
    shared = (normalized * scaled).mean(own, keepdim=True)
    to_input = ((scaled - normalized * shared) * inverse).to(values.dtype)
    if weight is None:
        return to_input, unread()
    product = given * normalized
    return to_input, (product.sum(others) if others else product).to(weight.dtype)


@computes_for("log_sigmoid_backward")
def _log_sigmoid_gradient(gradient: Tensor, values: Tensor, _: Tensor) -> Tensor:
    """Compute without the buffer, which CUDA leaves empty."""
    return gradient * torch.sigmoid(-values)

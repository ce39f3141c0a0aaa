"""The largest batch of any module that fits on a GPU, found by a few predictions.

Sizes are affine in the batch, and so is the peak but for rounding and thresholds of kernels.
Two predictions give a line; where it meets the GPU's memory the search begins. It ends at a batch
that was predicted to fit where the next one was predicted not to, so the answer does not depend
on the line.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from harness.prediction.gpu.catalogue import Gpu, GpuError, find
from harness.prediction.gpu.fit import FITS
from harness.prediction.largest_value import largest_value
from harness.prediction.module.module_prediction import ModulePrediction
from harness.prediction.module.predict_module import predict_module
from harness.schema.prediction import GpuFit

MOST_LINES = 4
NEAR = 64
"""One part in as many of the batch is taken for near."""

Progress = Callable[[int, str], object]
"""Called with each batch that was predicted, and the verdict."""


def largest_batch(
    build: Callable[[], nn.Module],
    *,
    gpu: Gpu | str,
    low: int = 1,
    high: int = 1 << 24,
    progress: Progress | None = None,
    **asked: Any,
) -> int | None:
    """Return a batch whose step fits on ``gpu`` where the next one does not.

    Args:
        build: returns the network, as for ``harness.predict``.
        gpu: a GPU of known size, or its name.
        low: the smallest batch that the network takes (2 with batch normalization).
        high: the largest batch to try.
        progress: called after each prediction.
        asked: further arguments of ``harness.predict``: input_shape, inputs, optimizer, ...

    Returns:
        None where not even ``low`` fits.

    Raises:
        GpuError: no such GPU, or one of unknown size.
        UnsupportedModuleError: the step cannot be predicted.

    """
    used = find(gpu) if isinstance(gpu, str) else gpu
    if used.total_bytes is None:
        raise GpuError(f"gpu must have a known total_bytes, got {used.name!r} without it")
    seen: dict[int, ModulePrediction] = {}

    def predicted(batch: int) -> ModulePrediction:
        if batch not in seen:
            seen[batch] = predict_module(build, batch, **{**asked, "device": "cuda", "gpu": used})
            if progress is not None:
                progress(batch, _fit(seen[batch]).verdict)
        return seen[batch]

    def fits(batch: int) -> bool:
        return _fit(predicted(batch)).verdict == FITS

    if not fits(low):
        return None
    room = used.total_bytes - _fit(predicted(low)).outside_bytes[1]
    guess = _where_lines_lead(room, low, high, predicted)
    fitting = max(batch for batch in seen if fits(batch))
    failing = min((batch for batch in seen if not fits(batch)), default=high + 1)
    if failing > high:
        return largest_value(fits, low=fitting, high=high, guess=guess)
    upward, step = guess == fitting, max(guess // 16, 1)
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        middle = min(fitting + step, middle) if upward else max(failing - step, middle)
        step *= 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting


def _where_lines_lead(
    room: int, low: int, high: int, predicted: Callable[[int], ModulePrediction]
) -> int:
    """Return a batch near the answer: where lines through two predictions meet the memory.

    The first line leads near it, the next ones next to it. What is reserved grows by whole
    segments, so where it does not grow between two batches, what is requested gives the slope.
    """
    before, at = low, min(4 * low, high)
    for _ in range(MOST_LINES):
        if at == before:
            break
        first, second = predicted(before), predicted(at)
        rise = (_reserved(second) - _reserved(first)) / (at - before)
        if rise <= 0:
            rise = (second.peak_live_bytes - first.peak_live_bytes) / (at - before)
        if rise <= 0:
            return high
        after = int(at + (room - _reserved(second)) / rise)
        before, at = at, min(max(after, low), high)
        if abs(at - before) <= at // NEAR:  # too near for the slope of what grows by segments
            break
    return at


def _reserved(prediction: ModulePrediction) -> int:
    return _fit(prediction).reserved_peak_bytes[1]


def _fit(prediction: ModulePrediction) -> GpuFit:
    assert prediction.card is not None, "a GPU of known size was named"
    return prediction.card

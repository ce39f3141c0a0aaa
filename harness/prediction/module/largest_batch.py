"""The largest batch of any module that fits on a card, found by forecasts alone."""

from collections.abc import Callable
from typing import Any

from torch import nn

from harness.prediction.gpu.catalogue import Gpu, GpuError, find
from harness.prediction.gpu.fit import FITS
from harness.prediction.largest_value import largest_value, largest_within
from harness.prediction.module.predict_module import ModuleForecast, forecast


def largest_batch(
    build: Callable[[], nn.Module],
    *,
    gpu: Gpu | str,
    low: int = 1,
    high: int = 1 << 24,
    **asked: Any,
) -> int | None:
    """Return a batch whose step surely fits on ``gpu`` where one more does not.

    Each batch that is tried is a forecast, seconds for a large network; about twenty are.

    Args:
        build: returns the network, as for ``forecast``.
        gpu: a card of known size, or its name.
        low: the smallest batch that the network takes (2 with batch normalisation).
        high: the largest batch to try.
        asked: what ``forecast`` takes besides: input_shape, inputs, optimizer, loss, mode, ...

    Returns:
        None where not even ``low`` fits.

    Raises:
        GpuError: no such card, or one of unknown size.
        ForecastError: the step cannot be followed.

    """
    used = find(gpu) if isinstance(gpu, str) else gpu
    if used.total_bytes is None:
        raise GpuError(f"gpu: {used.name!r}: its size is unknown")
    seen: dict[int, ModuleForecast] = {}

    def told(batch: int) -> ModuleForecast:
        if batch not in seen:
            seen[batch] = forecast(build, batch, device="cuda", gpu=used, **asked)
        return seen[batch]

    def fits(batch: int) -> bool:
        card = told(batch).card
        return card is not None and card.verdict == FITS

    guess = largest_within(lambda b: told(b).peak_live_bytes, used.total_bytes, low=low, high=high)
    return largest_value(fits, low=low, high=high, guess=guess)

"""The largest batch of a step that fits in memory: one search for each source of its peaks.

The formula of an MLP has a search of its own (``prediction/gpu/fit.py``): it knows the requested
bytes of each batch beforehand, and several policies of addresses.
"""

from typing import NamedTuple, Protocol

from harness.prediction.largest_value import HIGHEST, largest_value, line_meets


class Needs(Protocol):
    """A step that can be tried at any batch."""

    def peak(self, batch: int) -> int | None:
        """Return the peak of the allocated bytes; None if it is unknown, as so few do not run."""

    def completes(self, batch: int, room_bytes: int) -> bool:
        """Return whether the step completes within so much memory."""


class Largest(NamedTuple):
    """The end of a search."""

    batch: int | None
    """A batch that fits where the next one does not; None if none does, or none was too large."""
    is_found: bool
    """False if each batch up to the last one that is tried fits."""

    def note(self, gpu: str) -> str:
        """Return why there is no largest batch."""
        return f"largest batch on {gpu}: each one up to {HIGHEST:,} fits; no larger one is tried"


def largest_batch(needs: Needs, room_bytes: int, *, batch: int, unit: int = 1) -> Largest:
    """Return the largest multiple of ``unit`` that fits; ``batch`` is one that runs."""
    low = batch if needs.completes(batch, room_bytes) else _smallest(needs, unit)
    if low > batch:
        return Largest(None, is_found=True)
    count = largest_value(
        lambda count: needs.completes(count * unit, room_bytes),
        low=low // unit,
        high=HIGHEST // unit,
        guess=_guess(needs, room_bytes, batch, unit) // unit,
    )
    if count is None or count < HIGHEST // unit:
        return Largest(None if count is None else count * unit, is_found=True)
    return Largest(None, is_found=False)


def _smallest(needs: Needs, unit: int) -> int:
    """Return one example in each micro-batch, or two where batch normalization refuses one."""
    return 2 * unit if needs.peak(unit) is None else unit


def _guess(needs: Needs, room: int, batch: int, unit: int) -> int:
    """Return where a line through the allocated bytes of two batches meets the memory."""
    tried: dict[int, int | None] = {}

    def peak(at: int) -> int:
        tried[at] = known = needs.peak(at)
        return known or 0

    def meets(low: int, high: int) -> int:
        met = line_meets(room, (low, peak(low)), (high, peak(high)))
        return min(max(1, met), HIGHEST)

    low, high = batch, 2 * max(batch, 2 * unit)
    if not (peak(low) and peak(high)):
        return batch
    while peak(high) <= min(peak(low), room) and high < HIGHEST:
        high = min(8 * high, HIGHEST // unit * unit)  # a small batch does not decide the peak
    for _ in range(2):  # again next to the answer, where kernels are those of its size
        guess = meets(low, high)
        near = guess - guess % unit
        if near <= unit or near in (low, high) or near in tried or not peak(near):
            return guess
        low, high = sorted((near, high if abs(high - near) < abs(low - near) else low))
    return meets(low, high)

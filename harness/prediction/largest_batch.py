"""Finds the largest batch of a step that fits in memory."""

from functools import cache
from typing import NamedTuple, Protocol

from harness.prediction.largest_value import HIGHEST, largest_value, line_meets


class Needs(Protocol):
    """Interface to the memory of a step at any batch size."""

    def peak(self, batch: int) -> int | None:
        """Return the peak of allocated bytes; None if the batch is too small to run."""

    def completes(self, batch: int, room_bytes: int) -> bool:
        """Return whether the step can run within ``room_bytes``."""


class Largest(NamedTuple):
    """The result of a search for the largest batch."""

    batch: int | None
    """Largest batch that fits; None if no batch fits or if every batch fits."""
    is_found: bool
    """False if even the largest batch in the search fits."""

    def note(self, gpu: str) -> str:
        """Return the note for a search in which every batch fits."""
        return f"largest batch on {gpu}: each one up to {HIGHEST:,} fits; no larger one is tried"


NOT_SEARCHED = Largest(None, is_found=False)


def largest_batch(
    needs: Needs,
    room_bytes: int,
    *,
    batch: int,
    unit: int = 1,
    least: int | None = None,
    highest: int = HIGHEST,
    guess: int | None = None,
) -> Largest:
    """Return the largest multiple of ``unit`` up to ``highest`` that fits.

    The step must be able to run with ``batch``. ``least`` is the smallest batch that runs, if it is
    known. The search starts at ``guess``, by default at an estimate from the peaks of two batches.
    """

    @cache
    def fits(count: int) -> bool:
        return needs.completes(count * unit, room_bytes)

    low = batch if fits(batch // unit) else least or _smallest(needs, unit)
    if low > batch:
        return Largest(None, is_found=True)
    guess = guess or _guess(needs, room_bytes, batch, unit, highest)
    count = largest_value(
        fits,
        low=low // unit,
        high=highest // unit,
        guess=guess // unit,
    )
    if count is None or count < highest // unit:
        return Largest(None if count is None else count * unit, is_found=True)
    return NOT_SEARCHED


def _smallest(needs: Needs, unit: int) -> int:
    """Return the smallest batch that runs: one or two examples per micro-batch."""
    return 2 * unit if needs.peak(unit) is None else unit


def _guess(needs: Needs, room: int, batch: int, unit: int, highest: int) -> int:
    """Estimate the largest batch that fits, with a line through the peaks of two batches."""
    tried: dict[int, int | None] = {}

    def peak(at: int) -> int:
        tried[at] = known = needs.peak(at)
        return known or 0

    def meets(low: int, high: int) -> int:
        met = line_meets(room, (low, peak(low)), (high, peak(high)))
        return min(max(1, met), highest)

    low, high = batch, min(2 * max(batch, 2 * unit), highest // unit * unit)
    if not (peak(low) and peak(high)):
        return batch
    while peak(high) <= min(peak(low), room) and high < highest // unit * unit:
        high = min(8 * high, highest // unit * unit)  # a small batch does not decide the peak
    for _ in range(2):  # again next to the answer, where kernels are those of its size
        guess = meets(low, high)
        near = guess - guess % unit
        if near <= unit or near in (low, high) or near in tried or not peak(near):
            return guess
        low, high = sorted((near, high if abs(high - near) < abs(low - near) else low))
    return meets(low, high)

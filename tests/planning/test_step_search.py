"""The search of the largest batch, over planted needs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Self

import pytest

from harness.planning.step_bench import ENDLESS_BYTES, Bench, Need, TooLargeError
from harness.planning.step_search import StepSearch
from harness.prediction.gpu.catalogue import GPUS, OUTSIDE_BYTES, Gpu
from harness.prediction.largest_value import HIGHEST

GIB = 1 << 30
ROOM = 20 * GIB


class Planted(Bench):
    """Tries of planted needs; a twentieth more is reserved, which can be freed."""

    def __init__(self, bytes_of: Callable[[int], int], workspace: int = 0) -> None:
        self._bytes_of = bytes_of
        self._workspace = workspace
        self.model = None
        self.count = 0

    def with_largest_workspace(self) -> Self:
        return type(self)(lambda batch: self._bytes_of(batch) + self._workspace, self._workspace)

    def need(self, batch: int) -> Need:
        self.count += 1
        size = self._bytes_of(batch)
        if size > ENDLESS_BYTES:
            raise TooLargeError
        reserved = size + size // 20
        return Need(size, reserved, size, reserved, self._workspace)

    def completes(self, batch: int, memory_bytes: int) -> bool:
        self.count += 1
        return self._bytes_of(batch) <= memory_bytes


def gpu(total_bytes: int) -> Gpu:
    return replace(GPUS["l4"], total_bytes=total_bytes)


@pytest.mark.parametrize(
    "bytes_of",
    [
        lambda batch: GIB + 7_000_001 * batch,
        lambda batch: max(19 * GIB, GIB // 2 * batch),  # an optimizer decides for small batches
        lambda batch: max(19 * GIB, 5_000 * batch),
        lambda batch: GIB + 3 * batch**2,
        lambda batch: GIB + (batch // 100) * GIB // 10,
    ],
)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_largest_batch_fits_and_the_next_one_does_not(
    bytes_of: Callable[[int], int], accumulate: int
) -> None:
    tries = Planted(bytes_of)
    (fit,) = StepSearch(tries, 8, accumulate).fits(
        [gpu(ROOM + OUTSIDE_BYTES[1])], find_largest=True
    )
    largest = fit.largest_batch
    assert fit.verdict == "fits"
    assert largest is not None
    assert largest % accumulate == 0
    assert bytes_of(largest) <= ROOM
    assert bytes_of(largest + accumulate) > ROOM or largest + accumulate > HIGHEST
    assert tries.count < 60


def test_a_batch_that_is_too_large_is_searched_downwards() -> None:
    search = StepSearch(Planted(lambda batch: GIB + GIB * batch), 1000)
    fit, none = search.fits([gpu(ROOM + OUTSIDE_BYTES[1]), gpu(GIB)], find_largest=True)
    assert (fit.verdict, fit.largest_batch) == ("does not fit", 19)
    assert (none.largest_batch, none.largest_batch_text) == (None, "no batch fits")


def test_between_the_least_and_the_most_outside_it_is_a_close_call() -> None:
    total = ROOM + OUTSIDE_BYTES[0] + 1
    (fit,) = StepSearch(Planted(lambda batch: ROOM), 8).fits([gpu(total)], find_largest=False)
    assert (fit.verdict, fit.largest_batch_text) == ("close call", "")


@pytest.mark.parametrize(
    ("batch", "verdict"), [(8, "fits"), (16, "close call"), (20, "close call")]
)
def test_between_no_workspace_and_the_largest_one_it_is_a_close_call(
    batch: int, verdict: str
) -> None:
    bench = Planted(lambda batch: GIB * batch, workspace=5 * GIB)
    (fit,) = StepSearch(bench, batch).fits([gpu(ROOM + OUTSIDE_BYTES[1])], find_largest=True)
    assert fit.verdict == verdict
    assert fit.allocated_peak_bytes == (batch * GIB, (batch + 5) * GIB)
    assert (fit.largest_batch, fit.largest_batch_at_best) == (15, 20)
    assert fit.largest_batch_text == "safe up to batch 15; may fit up to 20"
    assert "depending on cuDNN's workspace" in str(fit)
    assert StepSearch(bench, 21).fits([gpu(ROOM + OUTSIDE_BYTES[1])])[0].verdict == "does not fit"
    # One that leaves blocks to others may need less.
    other = Planted(lambda batch: GIB * batch + 5 * GIB, workspace=-5 * GIB)
    (least,) = StepSearch(other, 16).fits([gpu(ROOM + OUTSIDE_BYTES[1])], find_largest=True)
    assert least.allocated_peak_bytes == (16 * GIB, 21 * GIB)
    assert (least.verdict, least.largest_batch, least.largest_batch_at_best) == (
        "close call", 15, 20
    )  # fmt: skip

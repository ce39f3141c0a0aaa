"""The search of the largest batch, over planted needs."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.dry_runs.memory_limit import ENDLESS_BYTES
from harness.planning.step_needs import Need, TooLargeError
from harness.planning.step_search import StepSearch
from harness.prediction.gpu.catalogue import GPUS, OUTSIDE_BYTES, Gpu
from harness.prediction.largest_value import HIGHEST
from harness.processes.messages import Failure
from harness.processes.outcome import ForkFailedError

GIB = 1 << 30
ROOM = 20 * GIB


class Planted:
    """Tries of planted needs from a least batch on; a twentieth more is reserved."""

    def __init__(
        self, bytes_of: Callable[[int], int], notes: tuple[str, ...] = (), least: int = 1
    ) -> None:
        self._bytes_of = bytes_of
        self._notes = notes
        self._least = least
        self.count = 0
        self.slow_from: int | None = None
        self._deadline: float | None = None

    def end_at(self, deadline: float | None) -> None:
        self._deadline = deadline

    def _try(self, batch: int) -> None:
        self.count += 1
        if self.slow_from is not None and batch >= self.slow_from:
            assert self._deadline, "a slow try would never end"
            time.sleep(max(0.0, self._deadline - time.monotonic()))
            raise TimeoutError

    def need(self, batch: int) -> Need:
        self._try(batch)
        if batch < self._least:
            raise ForkFailedError(Failure(type="ValueError", message="", out_of_memory=False))
        size = self._bytes_of(batch)
        if size > ENDLESS_BYTES:
            raise TooLargeError
        reserved = size + size // 20
        return Need(size, reserved, size, reserved, self._notes)

    def completes(self, batch: int, memory_bytes: int) -> bool:
        """Return whether it fits; with engines of smaller workspaces it always does."""
        self._try(batch)
        fits = self._bytes_of(batch) <= memory_bytes
        return batch >= self._least and (fits or bool(self._notes))


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
    assert bytes_of(largest + accumulate) > ROOM
    assert tries.count < 60


def test_a_batch_that_is_too_large_is_searched_downwards() -> None:
    search = StepSearch(Planted(lambda batch: GIB + GIB * batch), 1000)
    fit, none = search.fits([gpu(ROOM + OUTSIDE_BYTES[1]), gpu(GIB)], find_largest=True)
    assert (fit.verdict, fit.largest_batch) == ("does not fit", 19)
    assert (none.largest_batch, none.largest_batch_text) == (None, "no batch fits")


@pytest.mark.parametrize("batch", [8, HIGHEST])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_end_of_the_search_is_no_answer(batch: int, accumulate: int) -> None:
    search = StepSearch(Planted(lambda batch: GIB), batch, accumulate)
    (fit,) = search.fits([gpu(ROOM)], find_largest=True)
    assert (fit.verdict, fit.is_searched, fit.largest_batch) == ("fits", False, None)
    assert fit.largest_batch_text == ""
    assert search.notes == [
        "largest batch on l4: each one up to 16,777,216 fits; no larger one is tried"
    ]


def test_where_one_example_does_not_run_the_search_begins_at_two() -> None:
    search = StepSearch(Planted(lambda batch: GIB * batch, least=8), 64, 4)
    fit, none = search.fits([gpu(ROOM + OUTSIDE_BYTES[1]), gpu(GIB)], find_largest=True)
    assert (fit.largest_batch, none.largest_batch) == (20, None)


def test_between_the_least_and_the_most_outside_it_is_a_close_call() -> None:
    total = ROOM + OUTSIDE_BYTES[0] + 1
    (fit,) = StepSearch(Planted(lambda batch: ROOM), 8).fits([gpu(total)], find_largest=False)
    assert (fit.verdict, fit.largest_batch_text) == ("close call", "")


def test_a_step_that_can_do_with_smaller_workspaces_is_tried_all_the_same() -> None:
    for notes, verdict in ((("cuDNN",), "fits"), ((), "does not fit")):
        bench = Planted(lambda batch: 2 * ROOM, notes)
        (fit,) = StepSearch(bench, 8).fits([gpu(ROOM)])
        assert fit.verdict == verdict
        assert fit.needs_retries is (verdict == "fits")
        assert str(fit).startswith("tight: ") is fit.needs_retries


def test_a_search_that_takes_too_long_says_what_it_knows() -> None:
    """A step that loops over its rows in Python takes minutes at a million of them."""
    steps = Planted(lambda batch: 1000 * batch)
    steps.slow_from = 5_000
    search = StepSearch(steps, batch=32, seconds=0.6)
    for fit in search.fits([GPUS["l4"], GPUS["t4"]], find_largest=True):
        assert (fit.verdict, fit.is_searched, fit.largest_batch) == ("fits", False, None)
    ended = [note for note in search.notes if "64 fits; the search ended after 1 s" in note]
    assert len(ended) == 2

"""Cards, verdicts and the largest batch: against a search through every batch."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.prediction.gpu import catalogue, context_overhead
from harness.prediction.gpu.catalogue import GPUS, SOURCES, GpuError, described, find
from harness.prediction.gpu.fit import CLOSE_CALL, DOES_NOT_FIT, FITS, Card, boundary
from harness.schema.workload import Workload

MIB = 1 << 20
SMALL = Workload(device="cuda", hidden=(300, 200), in_features=100, batch=64, optimizer="adam")


def card(total_bytes: int, outside_bytes: tuple[int, int] = (0, 0), settings: str = "") -> Card:
    return Card(
        gpu=GPUS["a100-40gb"],
        settings=settings,
        total_bytes=total_bytes,
        outside_bytes=outside_bytes,
    )


@given(limit=st.integers(3, 5000), guess=st.integers(0, 10_000))
def test_the_boundary_is_found_from_any_guess(limit: int, guess: int) -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return number <= limit

    assert boundary(holds, 3, guess) == limit
    assert len(asked) <= 4 * 14


@pytest.mark.parametrize("settings", ["", "expandable_segments:True"])
def test_nothing_fits_above_the_largest_batch(settings: str) -> None:
    """Below it segments of fixed sizes can leave gaps; expandable ones do not."""
    small = card(26 * MIB, settings=settings)
    fits = {batch: small.surely_runs(SMALL.replace(batch=batch)) for batch in range(1, 2000)}
    largest = small.largest_batch(SMALL)
    assert largest == max(batch for batch, does in fits.items() if does)
    assert 0 < largest < 1999
    if settings:
        assert sum(fits.values()) == largest


def test_no_batch_fits_on_a_card_smaller_than_the_parameters() -> None:
    tiny = card(MIB)
    assert tiny.verdict(SMALL) == DOES_NOT_FIT
    assert tiny.largest_batch(SMALL, surely=False) is None


def test_what_lies_outside_decides_a_close_call() -> None:
    alone = card(26 * MIB)
    edge = alone.largest_batch(SMALL)
    assert edge is not None
    at_edge = SMALL.replace(batch=edge)
    assert alone.verdict(at_edge) == FITS
    assert card(26 * MIB, (0, 4 * MIB)).verdict(at_edge) == CLOSE_CALL
    assert card(26 * MIB, (4 * MIB, 4 * MIB)).verdict(at_edge) == DOES_NOT_FIT
    assert card(30 * MIB, (4 * MIB, 4 * MIB)).verdict(at_edge) == FITS


def test_a_batch_that_sums_in_32_bits_only_bounds_the_search() -> None:
    normed = SMALL.replace(norm="batch", hidden=(2048,), mode="inference")
    endless = card(1 << 50)
    assert endless.largest_batch(normed) == (2**31 - 1) // 2048


def test_every_card_says_where_its_size_is_from() -> None:
    assert SOURCES.keys() == GPUS.keys()
    for gpu in GPUS.values():
        assert gpu.total_bytes is not None
        assert gpu.total_bytes > context_overhead.MOST_BYTES > context_overhead.LEAST_BYTES
        assert gpu.threads_per_multiprocessor in (1024, 1536, 2048)


def test_a_card_can_be_described_without_a_name() -> None:
    gpu = described(capability="9.0", total_bytes=80 << 30)
    assert (gpu.capability, gpu.total_bytes) == ((9, 0), 80 << 30)
    assert gpu.multiprocessors == GPUS["h100-80gb"].multiprocessors
    assert described(capability="9.0").total_bytes is None
    assert described("l4", total_bytes=20 << 30).multiprocessors == GPUS["l4"].multiprocessors
    assert described(capability="6.1").multiprocessors == GPUS["v100-32gb"].multiprocessors
    assert described() == catalogue.DEFAULT


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: find("a100-80g"), "did you mean a100-80gb"),
        (lambda: find(""), "one of a100-40gb"),
        (lambda: described(capability="9"), "such as 9.0"),
        (lambda: described(capability="x.y"), "such as 9.0"),
        (lambda: described(capability="3.5"), "5.0 and above"),
    ],
)
def test_what_is_no_card_is_refused_in_one_line(wrong: Callable[[], Any], why: str) -> None:
    with pytest.raises(GpuError, match=why) as caught:
        wrong()
    assert "\n" not in str(caught.value)

"""Sequences worked by hand from the allocator's rules, one rule a test."""

import pytest

from harness.allocator import AllocatorConfig, CachingAllocator, OutOfMemoryError

MIB = 1 << 20


def test_an_empty_request_takes_nothing() -> None:
    allocator = CachingAllocator()
    assert allocator.malloc(0) == 0
    allocator.free(0)
    assert set(allocator.stats().values()) == {0, -1}


def test_a_negative_request_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        CachingAllocator().malloc(-1)


@pytest.mark.parametrize(
    ("requests", "allocated", "reserved"),
    [
        ([1], [512], 2 * MIB), ([MIB, MIB + 1], [MIB, MIB + 512], 22 * MIB),
        ([10 * MIB - 512] * 2, [10 * MIB - 512, 10 * MIB + 512], 20 * MIB),
        ([10 * MIB], [10 * MIB], 10 * MIB), ([10 * MIB + 1], [10 * MIB + 512], 12 * MIB),
    ],
)  # fmt: skip
def test_a_request_takes_a_multiple_of_512_of_a_segment_of_its_size(
    requests: list[int], allocated: list[int], reserved: int
) -> None:
    allocator = CachingAllocator()
    sizes = [allocator._blocks[allocator.malloc(size)].size for size in requests]
    assert sizes == allocated
    assert allocator.current("requested_bytes") == sum(requests)
    assert allocator.current("reserved_bytes") == reserved


def test_only_what_is_handed_out_can_be_freed() -> None:
    allocator = CachingAllocator()
    address = allocator.malloc(512)
    allocator.free(address)
    with pytest.raises(ValueError, match="nothing is allocated at address 0x100000000"):
        allocator.free(address)
    with pytest.raises(ValueError, match="nothing is allocated"):
        allocator.record_stream(address, 1)


def test_a_gpu_that_is_full_frees_what_is_free_and_tries_again() -> None:
    allocator = CachingAllocator(AllocatorConfig(total_bytes=40 * MIB, outside_bytes=10 * MIB))
    allocator.free(allocator.malloc(16 * MIB))
    allocator.malloc(30 * MIB)
    assert allocator.current("reserved_bytes") == 30 * MIB
    assert allocator.current("segment") == 1
    assert allocator.stats()["num_alloc_retries"] == 1
    assert allocator.stats()["num_ooms"] == 0


def test_what_cannot_fit_is_refused_with_the_metrics_and_the_state_stays_valid() -> None:
    allocator = CachingAllocator(AllocatorConfig(total_bytes=40 * MIB, outside_bytes=10 * MIB))
    held = allocator.malloc(16 * MIB)
    with pytest.raises(OutOfMemoryError, match="15728640 bytes requested") as caught:
        allocator.malloc(15 * MIB)
    error = caught.value
    assert (error.segment_bytes, error.free_bytes) == (16 * MIB, 14 * MIB)
    assert (error.allocated_bytes, error.reserved_bytes) == (16 * MIB, 16 * MIB)
    assert error.limit_bytes is None
    assert (allocator.stats()["num_ooms"], allocator.stats()["num_alloc_retries"]) == (1, 1)
    allocator.free(held)
    allocator.malloc(15 * MIB)

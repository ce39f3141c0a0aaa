"""The allocator follows a replay: the state at its begin, and segments that are returned."""

import pytest

from benchmarks.validation.following_allocator import FollowingAllocator
from benchmarks.validation.layout import BlockState, SegmentState
from harness.allocator import AllocatorConfig, Ascending

MIB = 1 << 20
BASE = 1 << 40


def follower(config: AllocatorConfig | None = None) -> FollowingAllocator:
    return FollowingAllocator(config or AllocatorConfig(), addresses=Ascending())


def segment(*blocks: BlockState, expandable: bool = False) -> SegmentState:
    return SegmentState(
        address=BASE, stream=0, is_large=True, is_expandable=expandable, blocks=blocks
    )


MIXED = (
    BlockState(5 * MIB, 5 * MIB - 100, "allocated"),
    BlockState(8 * MIB, 0, "free"),
    BlockState(7 * MIB, 7 * MIB, "awaiting"),
)


def test_an_adopted_segment_is_in_the_books() -> None:
    allocator = follower()
    allocator.adopt(segment(*MIXED))
    counters = {
        "allocated_bytes": 5 * MIB,
        "active_bytes": 12 * MIB,
        "requested_bytes": 12 * MIB - 100,
        "reserved_bytes": 20 * MIB,
        "inactive_split_bytes": 8 * MIB,
        "inactive_split": 1,
        "segment": 1,
        "allocation": 1,
        "active": 2,
    }
    assert {name: allocator.current(name) for name in counters} == counters
    assert {name: allocator.peak(name) for name in counters} == counters
    assert allocator.malloc(8 * MIB) == BASE + 5 * MIB
    allocator.free(BASE + 5 * MIB)
    allocator.complete(BASE + 13 * MIB)
    assert allocator._blocks[BASE + 5 * MIB].size == 15 * MIB


def test_an_adopted_expandable_segment_grows_on_from_its_end() -> None:
    allocator = follower(AllocatorConfig(expandable_segments=True))
    allocator.adopt(segment(*MIXED, expandable=True))
    assert allocator.current("segment") == 0
    assert allocator.current("inactive_split_bytes") == 0
    assert allocator.malloc(10 * MIB) == BASE + 20 * MIB
    assert allocator.current("reserved_bytes") == 40 * MIB


def test_an_adopted_expandable_segment_serves_no_plain_request() -> None:
    allocator = follower()
    allocator.adopt(segment(*MIXED, expandable=True))
    assert allocator.malloc(2 * MIB) != BASE + 5 * MIB
    assert allocator.current("reserved_bytes") == 40 * MIB


def test_two_segments_cannot_lie_at_one_address() -> None:
    allocator = follower()
    allocator.adopt(segment(*MIXED))
    with pytest.raises(ValueError, match="a block at address 0x10000000000 already"):
        allocator.adopt(segment(*MIXED))


def test_only_a_segment_that_is_wholly_free_can_be_given_back() -> None:
    allocator = follower()
    allocator.adopt(segment(*MIXED))
    with pytest.raises(ValueError, match="no segment at address 0x10000000000 is wholly free"):
        allocator.free_segment(BASE)
    allocator.free(BASE)
    allocator.complete(BASE + 13 * MIB)
    assert allocator.free_segments() == [BASE]
    allocator.free_segment(BASE)
    assert allocator.current("reserved_bytes") == 0


def test_a_gpu_that_allows_no_more_is_full_until_that_changes() -> None:
    allocator = follower()
    allocator.allow(20 * MIB)
    allocator.malloc(3 * MIB)
    with pytest.raises(RuntimeError, match="out of memory"):
        allocator.malloc(18 * MIB)
    allocator.allow(None)
    allocator.malloc(18 * MIB)

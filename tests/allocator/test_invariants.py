"""Random operations: nothing overlaps, nothing is lost, the counters add up."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    Ascending,
    CachingAllocator,
    Descending,
    LowestFree,
    OutOfMemoryError,
    Scattered,
)
from harness.allocator.blocks import ALLOCATED, AWAITING, FREE, UNMAPPED, Block
from harness.allocator.model import Completion
from tests.property_size import examples

MIB = 1 << 20
CONFIGS = (
    AllocatorConfig(),
    AllocatorConfig(total_bytes=96 * MIB),
    AllocatorConfig(total_bytes=256 * MIB, max_split_size_bytes=24 * MIB),
    AllocatorConfig(total_bytes=256 * MIB, roundup_power2_divisions=(4,) * 16),
    AllocatorConfig(total_bytes=256 * MIB, memory_fraction=0.5, garbage_collection_threshold=0.3),
    AllocatorConfig(total_bytes=128 * MIB, large_segment_size_bytes=33 * MIB),
    AllocatorConfig(expandable_segments=True),
    AllocatorConfig(expandable_segments=True, total_bytes=96 * MIB),
    AllocatorConfig(
        expandable_segments=True, total_bytes=200 * MIB, large_segment_size_bytes=33 * MIB
    ),
    AllocatorConfig(expandable_segments=True, total_bytes=1),  # next to no memory
    AllocatorConfig(expandable_segments=True, total_bytes=21 * MIB, outside_bytes=MIB),
    AllocatorConfig(total_bytes=2 * MIB - 1, max_split_size_bytes=20 * MIB),
    AllocatorConfig(
        total_bytes=20 * MIB, memory_fraction=0.0001, garbage_collection_threshold=0.01
    ),
)
POLICIES = (Ascending, Descending, LowestFree, Scattered)
SIZES = st.one_of(
    st.integers(1, 4096),
    st.integers(1, 40 * MIB),
    st.sampled_from([512, MIB, MIB + 1, 10 * MIB - 512, 10 * MIB, 20 * MIB, 24 * MIB]),
)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("malloc"), SIZES, st.sampled_from([0, 0, 0, 5, 9])),
        st.tuples(st.just("free"), st.integers(0, 1000), st.just(0)),
        st.tuples(st.just("record"), st.integers(0, 1000), st.sampled_from([0, 5, 9])),
        st.tuples(st.just("empty"), st.just(0), st.just(0)),
    ),
    max_size=120,
)


def chains(allocator: CachingAllocator) -> list[list[Block]]:
    """Every segment's blocks, by following the links."""
    result = []
    for block in sorted(allocator.blocks(), key=lambda block: block.address):
        if block.previous is None:
            chain = [block]
            while (following := chain[-1].next) is not None:
                chain.append(following)
            result.append(chain)
    return result


def check_layout(allocator: CachingAllocator) -> None:
    end = 0
    for chain in chains(allocator):
        assert chain[0].address >= end, "segments overlap"
        for block, following in pairwise(chain):
            assert block.address + block.size == following.address, "a gap or an overlap"
            assert following.previous is block
            assert not (block.state == following.state and block.state in (FREE, UNMAPPED))
        assert all(block.size > 0 and block.size % 512 == 0 for block in chain)
        end = chain[-1].address + chain[-1].size


def check_books(allocator: CachingAllocator, live: dict[int, int]) -> None:
    blocks = [block for chain in chains(allocator) for block in chain]
    sizes = Counter[int]()
    for block in blocks:
        sizes[block.state] += block.size
    handed_out = {block.address: block.requested for block in blocks if block.state == ALLOCATED}
    assert handed_out == live
    assert allocator.current("allocation") == len(live)
    assert allocator.current("allocated_bytes") == sizes[ALLOCATED]
    assert allocator.current("active_bytes") == sizes[ALLOCATED] + sizes[AWAITING]
    assert allocator.current("reserved_bytes") == sum(sizes.values()) - sizes[UNMAPPED]
    split = [
        block.size
        for block in blocks
        if block.state == FREE and block.range is None and block.is_split()
    ]
    assert allocator.current("inactive_split_bytes") == sum(split)
    assert allocator.current("inactive_split") == len(split)


def check_stats(allocator: CachingAllocator, highest: dict[str, int]) -> None:
    stats = allocator.stats()
    for name in ("allocated_bytes", "active_bytes", "requested_bytes", "reserved_bytes"):
        for pool in ("all", "small_pool", "large_pool"):
            current, peak, up, down = (
                stats[f"{name}.{pool}.{part}"] for part in ("current", "peak", "allocated", "freed")
            )
            assert current == up - down
            assert 0 <= current <= peak
        now = stats[f"{name}.all.current"]
        assert now == sum(stats[f"{name}.{pool}.current"] for pool in ("small_pool", "large_pool"))
        highest[name] = max(highest.get(name, 0), now)
        # Within a request a counter can rise further than it ends, but only reserved does.
        assert stats[f"{name}.all.peak"] >= highest[name]
        if name != "reserved_bytes":
            assert stats[f"{name}.all.peak"] == highest[name]
    limit = allocator.config.limit_bytes()
    total = allocator.config.total_bytes
    for bound in (limit, total):
        assert bound is None or stats["reserved_bytes.all.peak"] <= bound


def played(
    allocator: CachingAllocator, operations: list[tuple[str, int, int]]
) -> Iterator[tuple[dict[int, int], int]]:
    """Yield what is allocated after each operation, and how often memory ran out."""
    live: dict[int, int] = {}
    ooms = 0
    for kind, number, stream in operations:
        address = list(live)[number % len(live)] if live else 0
        if kind == "malloc":
            try:
                live[allocator.malloc(number, stream)] = number
            except OutOfMemoryError:
                ooms += 1
        elif kind == "empty":
            allocator.empty_cache()
        elif live and kind == "record":
            allocator.record_stream(address, stream)
        elif live:
            allocator.free(address)
            del live[address]
        yield live, ooms


@settings(max_examples=examples(120))
@given(
    config=st.sampled_from(CONFIGS),
    policy=st.sampled_from(POLICIES),
    completion=st.sampled_from(["at_once", "at_release"]),
    operations=OPERATIONS,
)
def test_the_books_balance_after_every_operation_and_nothing_is_left_at_the_end(
    config: AllocatorConfig,
    policy: type[AddressPolicy],
    completion: Completion,
    operations: list[tuple[str, int, int]],
) -> None:
    allocator = CachingAllocator(config, addresses=policy(), completion=completion)
    live: dict[int, int] = {}
    highest: dict[str, int] = {}
    for live, ooms in played(allocator, operations):
        check_layout(allocator)
        check_books(allocator, live)
        check_stats(allocator, highest)
        assert allocator.stats()["num_ooms"] == ooms
        assert config.total_bytes is not None or ooms == 0
    for address in live:
        allocator.free(address)
    allocator.empty_cache()
    assert all(block.state == UNMAPPED for block in allocator.blocks())
    assert allocator.current("reserved_bytes") == 0
    taken = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}
    assert sum(taken[e.action] * e.size_bytes for e in allocator.segment_log) == 0


@settings(max_examples=examples(30))
@given(operations=OPERATIONS, seed=st.integers(0, 5))
def test_with_expandable_segments_the_driver_addresses_do_not_matter(
    operations: list[tuple[str, int, int]], seed: int
) -> None:
    results = []
    for policy in (Ascending(), Descending(), Scattered(seed)):
        allocator = CachingAllocator(AllocatorConfig(expandable_segments=True), addresses=policy)
        list(played(allocator, operations))
        results.append(allocator.stats())
    assert results[0] == results[1] == results[2]

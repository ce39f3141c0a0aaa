"""Sources of new memory, and the return of free memory.

Source: ``alloc_block``, ``release_available_cached_blocks``, ``release_cached_blocks`` and
``garbage_collect_cached_blocks`` of ``CUDACachingAllocator.cpp``.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from harness.allocator.blocks import FREE, MASK, SHIFT, Block, FreeList, Pool
from harness.allocator.config import UNLIMITED, AllocatorConfig
from harness.allocator.counters import (
    OF_SEGMENTS,
    OVERSIZE_SEGMENTS,
    RESERVED_BYTES,
    SEGMENT,
    Counters,
)
from harness.allocator.device import Device, SegmentAction, SegmentEvent
from harness.allocator.expandable import ExpandableSegments


class Segments:
    """Allocates segments from the GPU, frees them, and keeps the counters of both."""

    def __init__(
        self,
        config: AllocatorConfig,
        device: Device,
        counters: Counters,
        blocks: dict[int, Block],
        pools: tuple[Pool, Pool],
        log: list[SegmentEvent],
    ) -> None:
        self.config = config
        self._device = device
        self._counters = counters
        self._blocks = blocks
        self._small, self._large = pools
        self._log = log
        self._expandable = ExpandableSegments(self.record, device, blocks)
        self._released: dict[int, None] = {}
        self._reserved_by_pool: Counter[int] = Counter()

    def grow(self, home: FreeList, rounded: int) -> Block | None:
        """Return a free block, in no list, that holds ``rounded`` bytes; None if there is none.

        The limit is checked against a whole segment even if one would grow by less.
        """
        if home.private_pool:
            self._released.pop(home.private_pool, None)  # who allocates holds the pool
        size = self.config.segment_size(rounded)
        limit = self.config.limit_bytes()
        if limit is not None and self._counters.current("reserved_bytes") + size > limit:
            return None
        if self.config.expandable_segments:
            return self._expandable.grow(home, rounded, self.config.large_segment_size_bytes)
        address = self._device.malloc(size)
        if address is None:
            return None
        block = Block(address, size, home, None, FREE)
        self._blocks[address] = block
        self.record("segment_alloc", home, address, size)
        return block

    def record(self, action: SegmentAction, home: FreeList, address: int, size: int) -> None:
        """Count ``size`` bytes as reserved, or as no longer reserved, and log the event."""
        takes = action in ("segment_alloc", "segment_map")
        totals = home.counters.up if takes else home.counters.down
        totals[RESERVED_BYTES] += size
        if action in ("segment_alloc", "segment_free"):
            totals[SEGMENT] += 1
            totals[OVERSIZE_SEGMENTS] += size >= self.config.max_split_size_bytes
        self._reserved_by_pool[home.private_pool] += size if takes else -size
        self._counters.events["num_device_alloc" if takes else "num_device_free"] += 1
        self._counters.note(OF_SEGMENTS)
        self._log.append(SegmentEvent(action, address, size, home.stream))

    def free_segment(self, block: Block) -> None:
        """Return the segment that ``block`` spans to the driver; it is in no list any more."""
        self._device.free(block.address, block.size)
        del self._blocks[block.address]
        self.record("segment_free", block.home, block.address, block.size)

    def release_pool(self, private_pool: int) -> None:
        """Allow a private pool to be freed from now on: no ``MemPool`` and no graph holds it."""
        self._released[private_pool] = None

    def lists_to_free(self) -> Iterator[list[FreeList]]:
        """Yield the lists whose free segments go back when the cache is emptied, in order.

        Private pools come last, and only those that were released.
        """
        yield self._large.in_stream_order()
        yield self._small.in_stream_order()
        for number in self._released:
            yield from self._lists_of_pool(number)

    def _lists_of_pool(self, private_pool: int) -> Iterator[list[FreeList]]:
        yield self._small.in_stream_order(private_pool)
        yield self._large.in_stream_order(private_pool)

    def free_unused(self) -> None:
        """Return every segment that is wholly free."""
        for lists in self.lists_to_free():
            self._free_lists(lists)
        self._released = {number: None for number in self._released if self._holds(number)}

    def free_pool(self, private_pool: int) -> None:
        """Return the wholly free segments of one private pool."""
        for lists in self._lists_of_pool(private_pool):
            self._free_lists(lists)
        if not self._holds(private_pool):
            self._released.pop(private_pool, None)

    def _holds(self, private_pool: int) -> bool:
        """Return whether anything of a private pool is still reserved."""
        return self._reserved_by_pool.get(private_pool, 0) > 0

    def _free_lists(self, lists: list[FreeList]) -> None:
        to_unmap: list[Block] = []
        for home in lists:
            kept = []
            for key in home.keys:
                block = self._blocks[key & MASK]
                if block.range is not None:
                    to_unmap.append(block)
                elif not block.is_split():
                    self.free_segment(block)
                    continue
                kept.append(key)
            home.keys[:] = kept
        for block in to_unmap:
            self._expandable.unmap(block)

    def free_oversize(self, home: FreeList, rounded: int) -> bool:
        """Return blocks that are never split until ``rounded`` would fit; return whether it may.

        Only if ``max_split_size`` is set. One block that is large enough goes alone;
        otherwise blocks go from the largest down.
        """
        threshold = self.config.max_split_size_bytes
        if threshold == UNLIMITED:
            return False
        target = max(rounded, threshold)
        keys = home.keys
        index = bisect_left(keys, target << SHIFT)
        if index < len(keys):
            block = self._blocks[keys[index] & MASK]
            if block.range is None:
                del keys[index]
                self.free_segment(block)
                return True
        released = 0
        while index > 0 and released < target and keys[index - 1] >> SHIFT >= threshold:
            index -= 1
            block = self._blocks[keys[index] & MASK]
            if block.range is None:
                released += block.size
                del keys[index]
                self.free_segment(block)
        return released >= target

    def collect_garbage(self) -> None:
        """Return large blocks of at least mean age until reserved is under the threshold."""
        limit = self.config.limit_bytes()
        if limit is None:
            return
        most = int(self.config.garbage_collection_threshold * limit)
        target = self._counters.current("reserved_bytes") - most
        if target <= 0:
            return
        searches = self._large.searches
        candidates = [
            block
            for home in self._large.in_stream_order()
            for block in (self._blocks[key & MASK] for key in home.keys)
            if not block.is_split()
        ]
        count = len(candidates)
        total_age = sum(searches - block.born for block in candidates)
        candidates = [block for block in candidates if block.range is None]
        reclaimed, freed = 0, True
        while reclaimed < target and freed and count > 0:
            mean_age = total_age / count
            old = [block for block in candidates if searches - block.born >= mean_age]
            candidates = [block for block in candidates if searches - block.born < mean_age]
            freed = bool(old)
            for block in old:
                reclaimed += block.size
                total_age -= searches - block.born
                count -= 1
                block.home.remove(block)
                self.free_segment(block)

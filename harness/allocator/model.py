"""The allocator itself: requests, releases, and what happens when memory runs out.

Source: ``malloc``, ``get_free_block``, ``alloc_found_block``, ``free``, ``free_block`` and
``process_events`` of ``CUDACachingAllocator.cpp``. ``malloc`` and ``_complete`` make few calls,
because a call costs as much as the work that it would do.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import Literal

from harness.allocator.addresses import AddressPolicy, Ascending
from harness.allocator.blocks import (
    ALLOCATED,
    AWAITING,
    FREE,
    MASK,
    SHIFT,
    Block,
    FreeList,
    Pool,
    StreamUses,
    best_fit,
)
from harness.allocator.config import (
    GRANULE_BYTES,
    SMALL_REQUEST_BYTES,
    UNLIMITED,
    AllocatorConfig,
    AllocatorConfigError,
)
from harness.allocator.counters import (
    ACTIVE,
    ACTIVE_BYTES,
    ALLOCATED_BYTES,
    ALLOCATION,
    OVERSIZE_ALLOCATIONS,
    REQUESTED_BYTES,
    SPLIT,
    SPLIT_BYTES,
    Counters,
)
from harness.allocator.device import Device, OutOfMemoryError, SegmentEvent
from harness.allocator.segments import Segments

Completion = Literal["at_once", "at_release"]


class CachingAllocator:
    """Answers requests as PyTorch's allocator would on one device.

    Work of other streams on a block is assumed to be done by the next request (``completion``
    "at_once"), or only when memory is released ("at_release").
    """

    def __init__(
        self,
        config: AllocatorConfig | None = None,
        *,
        addresses: AddressPolicy | None = None,
        completion: Completion = "at_once",
    ) -> None:
        config = AllocatorConfig() if config is None else config
        self.segment_log: list[SegmentEvent] = []
        self.completion: Completion = completion
        self._blocks: dict[int, Block] = {}
        self._small, self._large = Pool(is_small=True), Pool(is_small=False)
        self._counters = Counters(self._small.counters, self._large.counters)
        self._device = Device(
            total_bytes=config.total_bytes,
            outside_bytes=config.outside_bytes,
            addresses=Ascending() if addresses is None else addresses,
        )
        self._pools = (self._small, self._large)
        self._segments = Segments(
            config, self._device, self._counters, self._blocks, self._pools, self.segment_log
        )
        self._uses = StreamUses()
        self.reconfigure(config)

    @property
    def config(self) -> AllocatorConfig:
        """The settings in force."""
        return self._segments.config

    def reconfigure(self, config: AllocatorConfig) -> None:
        """Change the settings from here on, as a running program can; the GPU stays the same."""
        held = bool(self._blocks)
        if held and config.max_split_size_bytes != self.config.max_split_size_bytes:
            raise AllocatorConfigError("max_split_size_bytes cannot change while memory is held")
        self._segments.config = config
        self._rounds_plainly = max(config.roundup_power2_divisions) <= 1
        self._collects = (
            config.limit_bytes() is not None and config.garbage_collection_threshold > 0
        )
        self._may_be_oversize = config.max_split_size_bytes != UNLIMITED
        has_ranges = config.expandable_segments or any(
            block.range is not None for block in self._blocks.values()
        )
        self._searches_plainly = not (self._collects or self._may_be_oversize or has_ranges)
        everywhere = config.expandable_segments
        self._large.least_rest = GRANULE_BYTES if everywhere else SMALL_REQUEST_BYTES + 1
        self._large.split_below = UNLIMITED if everywhere else config.max_split_size_bytes

    def malloc(self, size_bytes: int, stream: int = 0) -> int:
        """Allocate a block for ``size_bytes`` on ``stream``; return its address.

        A request of 0 bytes never reaches the allocator: the answer is address 0.
        """
        if size_bytes <= 0:
            if size_bytes == 0:
                return 0
            raise ValueError(f"size_bytes must be at least 0, got {size_bytes}")
        if self._uses.queues and self.completion == "at_once":
            self._complete_all()
        if self._rounds_plainly:
            rounded = (size_bytes + 511) & -512
        else:
            rounded = self._segments.config.round_request(size_bytes)
        pool = self._small if rounded <= SMALL_REQUEST_BYTES else self._large
        home = pool.lists.get(stream) or pool.list_of(stream)
        keys, blocks = home.keys, self._blocks
        if self._searches_plainly:
            index = bisect_left(keys, rounded << SHIFT)
            if index == len(keys):
                index = -1
        else:
            pool.searches += self._collects and not home.private_pool
            index = best_fit(self._segments.config, home, blocks, rounded)
        block = (
            blocks[keys[index] & MASK] if index >= 0 else self._obtain(home, rounded, size_bytes)
        )
        if block.size - rounded >= pool.least_rest and rounded < pool.split_below:
            self._split(block, rounded, index)
        else:
            self._use_whole(block, index)
        size = block.size
        block.state = ALLOCATED
        block.requested = size_bytes
        up = pool.counters.up
        up[ALLOCATION] += 1
        up[ALLOCATED_BYTES] += size
        up[ACTIVE] += 1
        up[ACTIVE_BYTES] += size
        up[REQUESTED_BYTES] += size_bytes
        self._counters.blocks_rose = True
        if self._may_be_oversize and size >= self._segments.config.max_split_size_bytes:
            up[OVERSIZE_ALLOCATIONS] += 1
            self._counters.note((OVERSIZE_ALLOCATIONS,))
        return block.address

    def _split(self, block: Block, size: int, index: int) -> None:
        """Shorten a block to ``size`` and list the rest as free; ``alloc_found_block``."""
        home, within, following = block.home, block.range, block.next
        keys, counters = home.keys, home.counters
        address, rest_size = block.address + size, block.size - size
        born = home.pool.searches
        rest = Block(address, rest_size, home, within, FREE, block, following, born)
        block.size, block.next = size, rest
        self._blocks[address] = rest
        key = rest_size << SHIFT | address
        if index < 0:
            insort(keys, key)
        else:
            position = bisect_left(keys, key, 0, index)
            if position == index:
                keys[index] = key
            else:
                del keys[index]
                keys.insert(position, key)
        if following is not None:
            following.previous = rest
        if within is not None:
            return
        if following is None and block.previous is None:
            counters.up[SPLIT] += 1
            counters.up[SPLIT_BYTES] += rest_size
            self._counters.splits_rose = True
        else:
            if self._counters.splits_rose:
                self._counters.note_splits()
            counters.down[SPLIT_BYTES] += size

    def _use_whole(self, block: Block, index: int) -> None:
        """Take a free block out of its list, where it stands at ``index``; -1 if it is in none."""
        if index >= 0:
            del block.home.keys[index]
        if block.range is None and (block.previous is not None or block.next is not None):
            if self._counters.splits_rose:
                self._counters.note_splits()
            down = block.home.counters.down
            down[SPLIT] += 1
            down[SPLIT_BYTES] += block.size

    def free(self, address: int) -> None:
        """Free the block at ``address``; address 0 is no block and no error."""
        block = self._blocks.get(address)
        if block is None or block.state != ALLOCATED:
            if address == 0:
                return
            raise ValueError(f"nothing is allocated at address {address:#x}")
        if self._counters.blocks_rose:
            self._counters.note_blocks()
        down = block.home.counters.down
        down[ALLOCATION] += 1
        down[ALLOCATED_BYTES] += block.size
        if self._may_be_oversize and block.size >= self._segments.config.max_split_size_bytes:
            down[OVERSIZE_ALLOCATIONS] += 1
        if block.streams:
            self._uses.add(block)
        else:
            self._complete(block)

    def _complete(self, block: Block) -> None:
        """Merge the block with free neighbours and put it in its list; ``free_block``."""
        home = block.home
        up, down = home.counters.up, home.counters.down
        keys, blocks = home.keys, self._blocks
        size = block.size
        down[ACTIVE] += 1
        down[ACTIVE_BYTES] += size
        down[REQUESTED_BYTES] += block.requested
        block.state = FREE
        merged = merged_bytes = 0
        previous, following = block.previous, block.next
        if previous is not None and previous.state == FREE:
            del keys[bisect_left(keys, previous.size << SHIFT | previous.address)]
            del blocks[block.address]
            previous.size += size
            previous.next = following
            if following is not None:
                following.previous = previous
            merged, merged_bytes = 1, previous.size - size
            block = previous
        if following is not None and following.state == FREE:
            del keys[bisect_left(keys, following.size << SHIFT | following.address)]
            del blocks[following.address]
            block.size += following.size
            after = following.next
            block.next = after
            if after is not None:
                after.previous = block
            merged += 1
            merged_bytes += following.size
        insort(keys, block.size << SHIFT | block.address)
        block.born = home.pool.searches
        if block.range is None:
            if block.previous is not None or block.next is not None:
                if merged == 2:
                    self._counters.note_splits()
                    down[SPLIT] += 1
                elif merged == 0:
                    up[SPLIT] += 1
                up[SPLIT_BYTES] += size
                self._counters.splits_rose = True
            elif merged:
                if self._counters.splits_rose:
                    self._counters.note_splits()
                down[SPLIT] += merged
                down[SPLIT_BYTES] += merged_bytes

    def _obtain(self, home: FreeList, rounded: int, requested: int) -> Block:
        """Get new memory, if need be after releasing what is free; ``malloc``."""
        segments, counters = self._segments, self._counters
        if self._collects:
            segments.collect_garbage()
        block = segments.grow(home, rounded)
        if block is None and segments.free_oversize(home, rounded):
            block = segments.grow(home, rounded)
        if block is None:
            self.empty_cache()
            counters.events["num_alloc_retries"] += 1
            block = segments.grow(home, rounded)
        if block is not None:
            return block
        counters.events["num_ooms"] += 1
        raise OutOfMemoryError(
            requested_bytes=requested,
            segment_bytes=segments.config.segment_size(rounded),
            allocated_bytes=counters.current("allocated_bytes"),
            reserved_bytes=counters.current("reserved_bytes"),
            free_bytes=self._device.free_bytes(),
            limit_bytes=segments.config.limit_bytes(),
        )

    def empty_cache(self) -> None:
        """Wait for other streams, then free every segment that is wholly free."""
        self._counters.events["num_sync_all_streams"] += 1
        self._complete_all()
        self._segments.free_unused()

    def release_pool(self, private_pool: int) -> None:
        """Say that nothing holds a private pool any more: emptying the cache frees it too.

        A private pool is a number above the stream's 64 bits in what ``malloc`` is given.
        """
        self._segments.release_pool(private_pool)

    def empty_pool(self, private_pool: int) -> None:
        """Free the wholly free segments of one released pool, as a ``MemPool`` does at its end."""
        self._segments.free_pool(private_pool)

    def discard(self) -> None:
        """Drop every block; nothing can be asked afterwards.

        Blocks refer to their neighbours and back: without this, only the garbage collector
        would find them, which walks through all other objects each time.
        """
        for block in self._blocks.values():
            block.previous = block.next = None
        self._blocks.clear()

    def record_stream(self, address: int, stream: int) -> None:
        """Record that ``stream`` uses the block: freeing it will wait for that stream."""
        block = self._blocks.get(address)
        if block is None or block.state != ALLOCATED:
            raise ValueError(f"nothing is allocated at address {address:#x}")
        if stream != block.home.stream:
            block.streams = {stream} if block.streams is None else block.streams | {stream}

    def complete(self, address: int) -> None:
        """Say that the streams are done with a block that was freed while they used it."""
        block = self._blocks.get(address)
        if block is None or block.state != AWAITING:
            raise ValueError(f"no block at address {address:#x} awaits a stream")
        self._uses.finish(block)
        self._stop_awaiting(block)

    def _complete_all(self) -> None:
        for block in self._uses.finish_all():
            self._stop_awaiting(block)

    def _stop_awaiting(self, block: Block) -> None:
        if self._counters.blocks_rose:
            self._counters.note_blocks()
        self._complete(block)

    def blocks(self) -> Iterable[Block]:
        """Return every block, in no order."""
        return self._blocks.values()

    def reset_peaks(self) -> None:
        """Set every peak to the present value, as ``reset_peak_memory_stats`` does."""
        self._counters.reset_peaks()

    def current(self, name: str) -> int:
        """Return a counter's present value for both pools, such as ``reserved_bytes``."""
        return self._counters.current(name)

    def peak(self, name: str) -> int:
        """Return a counter's peak for both pools, such as ``reserved_bytes``."""
        return self.stats()[f"{name}.all.peak"]

    def stats(self) -> dict[str, int]:
        """Return every counter under its name in ``torch.cuda.memory_stats``."""
        stats = self._counters.as_stats()
        limit = self.config.max_split_size_bytes
        stats["max_split_size"] = -1 if limit == UNLIMITED else limit
        return stats

"""The allocator of a replay, which starts from a recorded state and frees on command."""

from benchmarks.validation.layout import BlockState, SegmentState
from harness.allocator.addresses import AddressPolicy
from harness.allocator.blocks import ALLOCATED, FREE, MASK, UNMAPPED, Block, best_fit
from harness.allocator.config import SMALL_REQUEST_BYTES, AllocatorConfig
from harness.allocator.counters import (
    ACTIVE,
    ACTIVE_BYTES,
    ALLOCATED_BYTES,
    ALLOCATION,
    REQUESTED_BYTES,
    SPLIT,
    SPLIT_BYTES,
)
from harness.allocator.model import CachingAllocator

# Stands for whatever streams a block awaited when the recording began.
_SOME_STREAM = -1


class FollowingAllocator(CachingAllocator):
    """An allocator that starts in the middle of a run and frees segments on command."""

    def __init__(self, config: AllocatorConfig, *, addresses: AddressPolicy) -> None:
        super().__init__(config, addresses=addresses, completion="at_release")

    def has_fit(self, size_bytes: int, stream: int = 0) -> bool:
        """Return whether a request could be served without new memory; nothing changes."""
        rounded = self.config.round_request(size_bytes)
        pool = self._small if rounded <= SMALL_REQUEST_BYTES else self._large
        return best_fit(self.config, pool.list_of(stream), self._blocks, rounded) >= 0

    def allow(self, more_bytes: int | None) -> None:
        """Let the GPU refuse more than ``more_bytes`` beyond what is allocated; None ends that."""
        self._device.allow(more_bytes)

    def free_segments(self) -> list[int]:
        """Return the addresses of all segments that are wholly free, expandable ones apart."""
        return [
            block.address
            for lists in self._segments.lists_to_free()
            for home in lists
            for block in (self._blocks[key & MASK] for key in home.keys)
            if not block.is_split() and block.range is None
        ]

    def adopt(self, segment: SegmentState) -> None:
        """Take over a segment as it stood when a recording began."""
        home = self._pools[segment.is_large].list_of(segment.stream)
        parts = list(segment.blocks)
        size = sum(part.size_bytes for part in parts)
        within = None
        if segment.is_expandable:
            within = self._segments.adopt_range(home, segment.address)
            parts.append(BlockState(max(within.size_bytes - size, 0), 0, "unmapped"))
        else:
            self._segments.adopt("segment_alloc", home, segment.address, size)
        address = segment.address
        previous: Block | None = None
        for part in parts:
            if address in self._blocks:
                raise ValueError(f"there is a block at address {address:#x} already")
            block = Block(address, part.size_bytes, home, within, FREE)
            block.put_between(previous, None)
            self._blocks[address] = block
            if within is not None and part.state != "unmapped":
                self._segments.adopt("segment_map", home, address, part.size_bytes)
            self._adopt_block(block, part, is_split=len(parts) > 1)
            previous = block
            address += part.size_bytes
        if segment.is_expandable:
            self.reconfigure(self.config)  # from now on searches must distinguish the two kinds
        self._counters.note_blocks()
        self._counters.note_splits()

    def _adopt_block(self, block: Block, part: BlockState, *, is_split: bool) -> None:
        up, down = block.home.counters.up, block.home.counters.down
        if part.state == "unmapped":
            block.state = UNMAPPED
            block.home.insert(block)
        elif part.state == "free":
            block.home.insert(block)
            if is_split and block.range is None:
                up[SPLIT] += 1
                up[SPLIT_BYTES] += part.size_bytes
        else:
            block.state = ALLOCATED
            block.requested = part.requested_bytes
            for one, size in ((ACTIVE, ACTIVE_BYTES), (ALLOCATION, ALLOCATED_BYTES)):
                up[one] += 1
                up[size] += part.size_bytes
            up[REQUESTED_BYTES] += part.requested_bytes
            if part.state == "awaiting":
                down[ALLOCATION] += 1
                down[ALLOCATED_BYTES] += part.size_bytes
                block.streams = {_SOME_STREAM}
                self._uses.add(block)

    def free_segment(self, address: int) -> None:
        """Free one segment, as garbage collection does."""
        block = self._blocks.get(address)
        if block is None or block.state != FREE or block.is_split() or block.range is not None:
            raise ValueError(f"no segment at address {address:#x} is wholly free")
        block.home.remove(block)
        self._segments.free_segment(block)

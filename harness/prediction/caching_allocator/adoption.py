"""Starting from a state that somebody else recorded."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.prediction.caching_allocator.blocks import ALLOCATED, FREE, Block
from harness.prediction.caching_allocator.segments import Segments
from harness.prediction.caching_allocator.streams import StreamUses

# Stands for whatever streams a block awaited when the recording began.
_SOME_STREAM = -1


class BlockState(NamedTuple):
    """A stretch of a segment: its bytes, the bytes asked for (0 where free), its state."""

    size_bytes: int
    requested_bytes: int
    state: Literal["free", "allocated", "awaiting"]


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """A segment, described from its low end."""

    address: int
    stream: int
    is_large: bool
    is_expandable: bool
    blocks: tuple[BlockState, ...]


def adopt_segment(
    segments: Segments, blocks: dict[int, Block], uses: StreamUses, segment: SegmentState
) -> None:
    """Put the segment's blocks into the books; see ``CachingAllocator.adopt``."""
    if segment.is_expandable:
        raise ValueError("an expandable segment cannot be adopted: its range is not recorded")
    if segment.address in blocks:
        raise ValueError(f"there is a segment at address {segment.address:#x} already")
    home = segments.pool_of(is_large=segment.is_large).list_of(segment.stream)
    counters = home.counters
    address = segment.address
    previous: Block | None = None
    for part in segment.blocks:
        block = Block(address, part.size_bytes, home, None, FREE)
        if previous is None:
            size = sum(each.size_bytes for each in segment.blocks)
            block = segments.adopt(home, address, size)
            block.size = part.size_bytes
        block.put_between(previous, None)
        blocks[address] = block
        if part.state == "free":
            home.insert(block)
            if len(segment.blocks) > 1:
                counters.inactive_split_up += 1
                counters.inactive_split_bytes_up += part.size_bytes
        else:
            block.state = ALLOCATED
            block.requested = part.requested_bytes
            counters.allocation_up += 1
            counters.allocated_bytes_up += part.size_bytes
            counters.requested_bytes_up += part.requested_bytes
            if part.state == "awaiting":
                counters.allocation_down += 1
                counters.allocated_bytes_down += part.size_bytes
                counters.awaiting += 1
                counters.awaiting_bytes += part.size_bytes
                block.streams = {_SOME_STREAM}
                uses.add(block)
        previous = block
        address += part.size_bytes

"""Starting from a state that somebody else recorded."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.allocator.blocks import ALLOCATED, FREE, UNMAPPED, Block
from harness.allocator.segments import Segments
from harness.allocator.streams import StreamUses

# Stands for whatever streams a block awaited when the recording began.
_SOME_STREAM = -1


class BlockState(NamedTuple):
    """A part of a segment: its bytes, the requested bytes (0 if free), its state."""

    size_bytes: int
    requested_bytes: int
    state: Literal["free", "allocated", "awaiting", "unmapped"]


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """A segment, described from its low end; an expandable one from its mapped part on."""

    address: int
    stream: int
    is_large: bool
    is_expandable: bool
    blocks: tuple[BlockState, ...]


def adopt_segment(
    segments: Segments, blocks: dict[int, Block], uses: StreamUses, segment: SegmentState
) -> None:
    """Register the segment's blocks; see ``FollowingAllocator.adopt``."""
    home = segments.pool_of(is_large=segment.is_large).list_of(segment.stream)
    parts = list(segment.blocks)
    within = None
    if segment.is_expandable:
        within = segments.adopt_range(home, segment.address)
        used = sum(part.size_bytes for part in parts)
        parts.append(BlockState(max(within.size_bytes - used, 0), 0, "unmapped"))
    else:
        size = sum(part.size_bytes for part in parts)
        segments.adopt(home, segment.address, size)
    address = segment.address
    previous: Block | None = None
    for part in parts:
        if address in blocks:
            raise ValueError(f"there is a block at address {address:#x} already")
        block = Block(address, part.size_bytes, home, within, FREE)
        block.put_between(previous, None)
        blocks[address] = block
        if within is not None and part.state != "unmapped":
            segments.adopt_mapped(home, address, part.size_bytes)
        _adopt_block(block, part, uses, is_split=len(parts) > 1)
        previous = block
        address += part.size_bytes


def _adopt_block(block: Block, part: BlockState, uses: StreamUses, *, is_split: bool) -> None:
    counters = block.home.counters
    if part.state == "unmapped":
        block.state = UNMAPPED
        block.home.insert_unmapped(block)
        return
    if part.state == "free":
        block.home.insert(block)
        if is_split and block.range is None:
            counters.inactive_split_up += 1
            counters.inactive_split_bytes_up += part.size_bytes
        return
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

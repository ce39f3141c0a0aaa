"""Expandable segments: one reserved address range, filled with memory from below.

Source: ``find_expandable_block``, ``map_block``, ``try_allocate_expandable_block``,
``unmap_block`` and the class ``ExpandableSegment`` of ``CUDACachingAllocator.cpp``.
"""

from collections.abc import Callable

from harness.allocator.blocks import FREE, UNMAPPED, AddressRange, Block, FreeList
from harness.allocator.config import SMALL_SEGMENT_BYTES
from harness.allocator.device import Device, SegmentAction

_USABLE = (FREE, UNMAPPED)


class ExpandableSegments:
    """Maps memory into address ranges and unmaps it; ``record`` counts what it does."""

    def __init__(
        self,
        record: Callable[[SegmentAction, FreeList, int, int], None],
        device: Device,
        blocks: dict[int, Block],
    ) -> None:
        self._record = record
        self._device = device
        self._blocks = blocks

    def grow(self, home: FreeList, rounded: int, large_unit_bytes: int) -> Block | None:
        """Return a free block of at least ``rounded`` bytes, in no list; None if there is none.

        What was mapped before the memory ran out stays mapped.
        """
        block = self._find(home, rounded, large_unit_bytes)
        if block.state == UNMAPPED and not self._map(block, min(block.size, rounded)):
            return None
        while block.size < rounded:
            # The block is free and the next one is not mapped: their merger takes its place.
            following = block.next
            assert following is not None
            if not self._map(following, min(rounded - block.size, following.size)):
                return None
            block = following
        home.remove(block)
        return block

    def unit_of(self, home: FreeList, large_unit_bytes: int) -> int:
        """Return the bytes that are mapped at a time."""
        return SMALL_SEGMENT_BYTES if home.pool.is_small else large_unit_bytes

    def _find(self, home: FreeList, size: int, large_unit_bytes: int) -> Block:
        """Return the lowest block from which ``size`` bytes of addresses are usable."""
        for address in home.unmapped:
            block = self._blocks[address]
            if block.previous is not None and block.previous.state in _USABLE:
                block = block.previous
            if _has_room(block, size):
                return block
        unit = self.unit_of(home, large_unit_bytes)
        start, length = self._device.reserve(unit)
        block = Block(start, length, home, AddressRange(start, length, unit), UNMAPPED)
        self._blocks[start] = block
        home.insert(block)
        return block

    def _map(self, block: Block, size: int) -> bool:
        """Put memory under the first ``size`` bytes of ``block``, in whole units."""
        within = block.range
        assert within is not None
        unit = within.unit_bytes
        size = -(-size // unit) * unit
        if not self._device.take(size):
            return False
        home = block.home
        home.remove(block)
        block.state = FREE
        start = block.address
        if size < block.size:
            rest = Block(start + size, block.size - size, home, within, UNMAPPED)
            rest.put_between(block, block.next)
            self._blocks[rest.address] = rest
            home.insert(rest)
            block.size = size
        self._merge(block)
        home.insert(block)
        self._record("segment_map", home, start, size)
        return True

    def unmap(self, block: Block) -> None:
        """Take the memory from all units that the free ``block`` covers wholly."""
        within = block.range
        assert within is not None
        unit = within.unit_bytes
        offset = block.address - within.address
        start = within.address + -(-offset // unit) * unit
        end = within.address + (offset + block.size) // unit * unit
        if start >= end:
            return
        home = block.home
        home.remove(block)
        del self._blocks[block.address]
        self._keep_ragged(block, block.address, start, block.previous, block)
        self._keep_ragged(block, end, block.address + block.size, block, block.next)
        block.address, block.size, block.state = start, end - start, UNMAPPED
        self._blocks[start] = block
        self._merge(block)
        home.insert(block)
        self._device.give(end - start)
        self._record("segment_unmap", home, start, end - start)
        if not block.is_split():
            home.remove(block)
            del self._blocks[block.address]
            self._device.unreserve(within.address, within.size_bytes)

    def _keep_ragged(
        self, block: Block, start: int, end: int, previous: Block | None, following: Block | None
    ) -> None:
        """Make a free block of an end that shares its unit with a neighbour."""
        if start < end:
            ragged = Block(start, end - start, block.home, block.range, FREE)
            ragged.put_between(previous, following)
            self._blocks[start] = ragged
            block.home.insert(ragged)

    def _merge(self, block: Block) -> None:
        """Swallow neighbours in the same state; they leave their list."""
        before, after = block.previous, block.next
        if before is not None and before.state == block.state:
            before.home.remove(before)
            del self._blocks[block.address]
            block.address = before.address
            block.size += before.size
            block.put_between(before.previous, after)
            self._blocks[block.address] = block
        if after is not None and after.state == block.state:
            after.home.remove(after)
            del self._blocks[after.address]
            block.size += after.size
            block.put_between(block.previous, after.next)


def _has_room(block: Block | None, size: int) -> bool:
    room = 0
    while room < size and block is not None and block.state in _USABLE:
        room += block.size
        block = block.next
    return room >= size

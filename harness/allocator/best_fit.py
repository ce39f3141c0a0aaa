"""Best fit if more than size and address decide; ``get_free_block``."""

from bisect import bisect_left

from harness.allocator.blocks import MASK, SHIFT, UNMAPPED, Block, FreeList
from harness.allocator.config import AllocatorConfig


def best_fit(
    config: AllocatorConfig, home: FreeList, blocks: dict[int, Block], rounded: int
) -> int:
    """Return the index in ``home.keys`` of the free block to use, -1 for none.

    A block that can grow counts with the space it can grow into. Where the first candidate
    is refused for its size, no other is tried.
    """
    keys = home.keys
    index = bisect_left(keys, rounded << SHIFT)
    if index == len(keys):
        return -1
    block = blocks[keys[index] & MASK]
    if block.range is not None:
        if config.expandable_segments:
            index, block = _least_to_grow_to(home, blocks, index)
        else:
            while block.range is not None:
                index += 1
                if index == len(keys):
                    return -1
                block = blocks[keys[index] & MASK]
    limit = config.max_split_size_bytes
    if rounded < limit <= block.size:
        return -1
    if rounded >= limit and block.size >= rounded + config.max_non_split_rounding_bytes:
        return -1
    return index


def _least_to_grow_to(home: FreeList, blocks: dict[int, Block], index: int) -> tuple[int, Block]:
    """Walk up from ``index`` while the next candidate could grow to less."""
    keys = home.keys
    block = blocks[keys[index] & MASK]
    while block.range is not None and index + 1 < len(keys):
        candidate = blocks[keys[index + 1] & MASK]
        if _size_to_grow_to(candidate) >= _size_to_grow_to(block):
            break
        index, block = index + 1, candidate
    return index, block


def _size_to_grow_to(block: Block) -> int:
    """Return a block's size with the unmapped space behind it."""
    following = block.next
    if following is not None and following.state == UNMAPPED:
        return block.size + following.size
    return block.size

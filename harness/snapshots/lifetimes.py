"""Blocks of the allocator's event log, each from the event that allocates it to the one that frees.

The process of a dry run loads this module too, so it imports nothing but the standard library.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate


@dataclass(slots=True)
class Block:
    """A block, by the positions of its events, which count from 0.

    ``begin`` is -1 for a block from before the log; ``end`` is None if no event frees it.
    """

    address: int
    size_bytes: int
    begin: int
    end: int | None = None

    def is_alive_after(self, position: int) -> bool:
        """Return whether the block is alive after the event at ``position``."""
        return self.begin <= position and (self.end is None or self.end > position)


def find_blocks(
    events: Iterable[tuple[str, int, int]], before: Iterable[tuple[int, int]] = ()
) -> list[Block]:
    """Return every block in the order of the allocations.

    Args:
        events: action, address and bytes of each event.
        before: address and bytes of each block from before the log.

    >>> find_blocks([("alloc", 7, 512), ("free_requested", 7, 512)])
    [Block(address=7, size_bytes=512, begin=0, end=1)]
    """
    blocks = [Block(address, size, -1) for address, size in before]
    alive = {block.address: block for block in blocks}
    for position, (action, address, size) in enumerate(events):
        if action == "alloc":
            alive[address] = block = Block(address, size, position)
            blocks.append(block)
        elif action == "free_requested" and address in alive:
            alive.pop(address).end = position
    return blocks


def bytes_alive(blocks: Iterable[Block], events: int) -> list[int]:
    """Return the bytes alive before the first of a number of events, then after each of them."""
    changes = [0] * (events + 1)
    for block in blocks:
        changes[block.begin + 1] += block.size_bytes
        if block.end is not None:
            changes[block.end + 1] -= block.size_bytes
    return list(accumulate(changes))

"""Blocks, and the ordered lists of those that are free.

The allocator orders free blocks by (stream, size, address). Here each stream of each pool
has a list of its own, whose entries are single integers, ``size << 64 | address``: they
compare as fast as anything can in Python, and blocks are found by address.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.allocator.config import GRANULE_BYTES, UNLIMITED, AllocatorConfig
from harness.allocator.counters import PoolCounters

SHIFT = 64
MASK = (1 << SHIFT) - 1
POOL_SHIFT = 64
"""Above a stream's handle stands the number of a private pool, 0 for the default pool."""

FREE, ALLOCATED, AWAITING, UNMAPPED = range(4)


@dataclass(slots=True, eq=False)
class AddressRange:
    """One expandable segment: reserved addresses, mapped unit by unit."""

    address: int
    size_bytes: int
    unit_bytes: int


@dataclass(slots=True, eq=False)
class Pool:
    """The small or the large pool: its streams' lists and its rules for splitting."""

    is_small: bool
    counters: PoolCounters = field(default_factory=PoolCounters)
    lists: dict[int, "FreeList"] = field(default_factory=dict)
    searches: int = 0
    least_rest: int = GRANULE_BYTES
    split_below: int = UNLIMITED

    def list_of(self, stream: int) -> "FreeList":
        """Return the list of ``stream``, made on first use."""
        if stream not in self.lists:
            self.lists[stream] = FreeList(self, stream)
        return self.lists[stream]

    def in_stream_order(self, private_pool: int = 0) -> list["FreeList"]:
        """Return the lists of the default pool or of a private one, as the allocator's set has."""
        streams = (stream for stream in self.lists if stream >> POOL_SHIFT == private_pool)
        return [self.lists[stream] for stream in sorted(streams)]


class FreeList:
    """Free blocks of one pool and stream by (size, address); unmapped ones by address.

    A private pool (``MemPool``, CUDA graphs) has lists of its own, as a stream has: its number
    stands above the stream's handle.
    """

    __slots__ = ("counters", "keys", "pool", "private_pool", "stream", "unmapped")

    def __init__(self, pool: Pool, stream: int) -> None:
        self.pool = pool
        self.stream = stream
        self.private_pool = stream >> POOL_SHIFT
        self.counters = pool.counters
        self.keys: list[int] = []
        self.unmapped: list[int] = []

    def insert(self, block: "Block") -> None:
        """Add a block that became free, whose age begins, or that lost its memory."""
        if block.state == UNMAPPED:
            insort(self.unmapped, block.address)
        else:
            block.born = self.pool.searches
            insort(self.keys, block.size << SHIFT | block.address)

    def remove(self, block: "Block") -> None:
        """Take a free or an unmapped block out."""
        if block.state == UNMAPPED:
            del self.unmapped[bisect_left(self.unmapped, block.address)]
        else:
            del self.keys[bisect_left(self.keys, block.size << SHIFT | block.address)]


@dataclass(slots=True, eq=False)
class Block:
    """A part of one segment: allocated, free, awaiting other streams, or unmapped."""

    address: int
    size: int
    home: FreeList
    range: AddressRange | None
    state: int
    previous: "Block | None" = None
    next: "Block | None" = None
    born: int = 0
    """Number of searches of the pool when the block became free."""
    requested: int = 0
    events: int = 0
    streams: set[int] | None = None

    def is_split(self) -> bool:
        """Return whether the block shares its segment with others."""
        return self.previous is not None or self.next is not None

    def put_between(self, previous: "Block | None", following: "Block | None") -> None:
        """Link the block into its segment's chain."""
        self.previous, self.next = previous, following
        if previous is not None:
            previous.next = self
        if following is not None:
            following.previous = self


class StreamUses:
    """Blocks that were freed while another stream used them: an event in each stream's queue.

    Source: ``insert_events``, ``process_events`` and ``synchronize_and_free_events``.

    PyTorch goes through a hash table by stream: the default stream first, then the latest made
    first, as observed with up to 4 streams of torch 2.13. With more the order follows from
    stream numbers that no recording has. It shows only in how often ``inactive_split``
    rises and falls on the way (its peak, allocated and freed), never in what is reserved.

    Attributes:
        queues: the blocks that await each stream, in the order in which they were freed.
    """

    def __init__(self) -> None:
        self.queues: dict[int, deque[Block]] = {}

    def add(self, block: Block) -> None:
        """Queue the uses of a block that has just been freed."""
        block.state = AWAITING
        streams, block.streams = block.streams or set(), None
        for stream in sorted(streams):
            block.events += 1
            self.queues.setdefault(stream, deque()).append(block)

    def finish_all(self) -> Iterator[Block]:
        """Mark every use as done; yield each block when its last use is."""
        for stream in sorted(self.queues, key=lambda handle: (handle != 0, -handle)):
            for block in self.queues.pop(stream):
                block.events -= 1
                if block.events == 0:
                    yield block

    def finish(self, block: Block) -> None:
        """Mark every use of one block as done."""
        block.events = 0
        for stream in list(self.queues):
            left = deque(other for other in self.queues[stream] if other is not block)
            if left:
                self.queues[stream] = left
            else:
                del self.queues[stream]


def best_fit(
    config: AllocatorConfig, home: FreeList, blocks: dict[int, Block], rounded: int
) -> int:
    """Return the index in ``home.keys`` of the free block to use, -1 for none: ``get_free_block``.

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

"""Blocks that were freed while another stream still used them.

Each use is an event in its stream's queue; the block is free when the last one is done.
Source: ``insert_events``, ``process_events`` and ``synchronize_and_free_events``.
"""

from collections import deque
from collections.abc import Iterator

from harness.allocator.blocks import AWAITING, Block


class StreamUses:
    """The queues, and the order in which PyTorch looks through them.

    It goes through a hash table by stream: the default stream first, then the latest made
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

"""The allocator of a replay: it also follows what no request could express."""

from collections.abc import Callable

from harness.allocator.addresses import AddressPolicy
from harness.allocator.best_fit import best_fit
from harness.allocator.blocks import FREE
from harness.allocator.config import SMALL_REQUEST_BYTES, AllocatorConfig
from harness.allocator.model import CachingAllocator
from harness.allocator.restore import SegmentState, adopt_segment


class FollowingAllocator(CachingAllocator):
    """An allocator that starts in the middle of a run and frees segments on command.

    Attributes:
        before_growing: called when no free block fits, before new memory is allocated; a replay
            frees the segments there that the recording freed.
    """

    def __init__(self, config: AllocatorConfig, *, addresses: AddressPolicy) -> None:
        super().__init__(config, addresses=addresses, completion="at_release")
        self.before_growing: Callable[[], None] | None = None

    def _before_growing(self) -> None:
        if self.before_growing is not None:
            self.before_growing()

    def has_fit(self, size_bytes: int, stream: int = 0) -> bool:
        """Return whether a request could be served without new memory; nothing changes."""
        rounded = self.config.round_request(size_bytes)
        pool = self._small if rounded <= SMALL_REQUEST_BYTES else self._large
        return best_fit(self.config, pool.list_of(stream), self._blocks, rounded) >= 0

    def allow(self, more_bytes: int | None) -> None:
        """Let the GPU refuse more than ``more_bytes`` beyond what is allocated; None ends that."""
        self._device.allow(more_bytes)

    def adopt(self, segment: SegmentState) -> None:
        """Take over a segment as it stood when a recording began.

        Raises:
            ValueError: something is at its addresses already.
        """
        adopt_segment(self._segments, self._blocks, self._uses, segment)
        if segment.is_expandable:
            self.reconfigure(self.config)  # from now on searches must distinguish the two kinds
        self._counters.note_blocks()
        self._counters.note_splits()

    def free_segment(self, address: int) -> None:
        """Free one segment, as garbage collection does.

        Raises:
            ValueError: the segment at that address is not wholly free.
        """
        block = self._blocks.get(address)
        if block is None or block.state != FREE or block.is_split() or block.range is not None:
            raise ValueError(f"no segment at address {address:#x} is wholly free")
        block.home.remove(block)
        self._segments.free_segment(block)

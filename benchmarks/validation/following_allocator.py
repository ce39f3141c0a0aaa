"""The allocator of a replay, which frees segments on command."""

from collections.abc import Callable

from harness.allocator.addresses import AddressPolicy
from harness.allocator.blocks import FREE, Block, FreeList, best_fit
from harness.allocator.config import SMALL_REQUEST_BYTES, AllocatorConfig
from harness.allocator.model import CachingAllocator


class FollowingAllocator(CachingAllocator):
    """An allocator that frees segments on command."""

    def __init__(self, config: AllocatorConfig, *, addresses: AddressPolicy) -> None:
        super().__init__(config, addresses=addresses, completion="at_release")
        self.before_growing: Callable[[], None] | None = None
        """Called if no free block fits, before new memory is allocated."""

    def _obtain(self, home: FreeList, rounded: int, requested: int) -> Block:
        if self.before_growing is not None:
            self.before_growing()
        return super()._obtain(home, rounded, requested)

    def has_fit(self, size_bytes: int, stream: int = 0) -> bool:
        """Return whether a request could be served without new memory; nothing changes."""
        rounded = self.config.round_request(size_bytes)
        pool = self._small if rounded <= SMALL_REQUEST_BYTES else self._large
        return best_fit(self.config, pool.list_of(stream), self._blocks, rounded) >= 0

    def free_segment(self, address: int) -> None:
        """Free one segment, as garbage collection does, if it is wholly free."""
        block = self._blocks.get(address)
        if block is None or block.state != FREE or block.is_split() or block.range is not None:
            return
        block.home.remove(block)
        self._segments.free_segment(block)

"""Statistics that can be read of an allocator without changing it."""

from collections.abc import Iterable, Iterator

from harness.allocator.blocks import MASK, Block
from harness.allocator.config import UNLIMITED, AllocatorConfig
from harness.allocator.counters import Counters
from harness.allocator.segments import Segments


class Readings:
    """Reads an allocator's counters, blocks and segments, and changes none of them but peaks."""

    _blocks: dict[int, Block]
    _counters: Counters
    _segments: Segments

    @property
    def config(self) -> AllocatorConfig:
        """The settings in force."""
        return self._segments.config

    def segment_heads(self) -> Iterator[Block]:
        """Yield the first block of every segment and address range, lowest address first."""
        for address in sorted(self._blocks):
            if self._blocks[address].previous is None:
                yield self._blocks[address]

    def blocks(self) -> Iterable[Block]:
        """Return every block, in no order."""
        return self._blocks.values()

    def free_segments(self) -> list[int]:
        """Return the addresses of all segments that are wholly free, expandable ones apart."""
        return [
            block.address
            for lists in self._segments.lists_to_free()
            for home in lists
            for block in (self._blocks[key & MASK] for key in home.keys)
            if not block.is_split() and block.range is None
        ]

    def reset_peaks(self) -> None:
        """Set every peak to the present value, as ``reset_peak_memory_stats`` does."""
        self._counters.reset_peaks()

    def current(self, name: str) -> int:
        """Return a counter's present value for both pools, such as ``reserved_bytes``."""
        return self._counters.current(name)

    def peak(self, name: str) -> int:
        """Return a counter's peak for both pools, such as ``reserved_bytes``."""
        return self.stats()[f"{name}.all.peak"]

    def stats(self) -> dict[str, int]:
        """Return every counter under its name in ``torch.cuda.memory_stats``."""
        stats = self._counters.as_stats()
        limit = self.config.max_split_size_bytes
        stats["max_split_size"] = -1 if limit == UNLIMITED else limit
        return stats

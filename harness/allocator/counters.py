"""The counters of ``torch.cuda.memory_stats``, kept cheaply.

Each counter is a pair of running totals, up and down: ``current`` is their difference and
``allocated`` and ``freed`` are the totals themselves. A peak can only be reached just
before something falls, so peaks are noted then, and when they are read.
Source: ``c10/core/CachingDeviceAllocator.h`` of PyTorch 2.13.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

ACTIVE, ACTIVE_BYTES, ALLOCATED_BYTES, ALLOCATION, REQUESTED_BYTES = OF_BLOCKS = range(5)
SPLIT, SPLIT_BYTES = OF_SPLITS = range(5, 7)
RESERVED_BYTES, SEGMENT, OVERSIZE_SEGMENTS = OF_SEGMENTS = range(7, 10)
OVERSIZE_ALLOCATIONS = 10
NAMES = (
    "active",
    "active_bytes",
    "allocated_bytes",
    "allocation",
    "requested_bytes",
    "inactive_split",
    "inactive_split_bytes",
    "reserved_bytes",
    "segment",
    "oversize_segments",
    "oversize_allocations",
)


def _zeros() -> list[int]:
    return [0] * len(NAMES)


@dataclass(slots=True, eq=False)
class PoolCounters:
    """Running totals and peaks of one pool, by the number of the counter."""

    up: list[int] = field(default_factory=_zeros)
    down: list[int] = field(default_factory=_zeros)
    peak: list[int] = field(default_factory=_zeros)


class Counters:
    """All counters of a device.

    ``blocks_rose`` and ``splits_rose``: requests raised what ``note_blocks``, ``note_splits`` note.
    """

    def __init__(self, small: PoolCounters, large: PoolCounters) -> None:
        self.small = small
        self.large = large
        self.peak = _zeros()
        self._small = small.up, small.down, small.peak
        self._large = large.up, large.down, large.peak
        self.blocks_rose = self.splits_rose = False
        self.events = dict.fromkeys(
            (
                "num_alloc_retries",
                "num_ooms",
                "num_oom_rejections",
                "num_sync_all_streams",
                "num_device_alloc",
                "num_device_free",
            ),
            0,
        )

    def current(self, name: str) -> int:
        """Return a counter's present value for both pools."""
        index = NAMES.index(name)
        return sum(pool.up[index] - pool.down[index] for pool in (self.small, self.large))

    def note(self, counters: Iterable[int]) -> None:
        """Note the peaks of some counters; call before they fall."""
        small_up, small_down, small_peak = self._small
        large_up, large_down, large_peak = self._large
        peak = self.peak
        for index in counters:
            small = small_up[index] - small_down[index]
            large = large_up[index] - large_down[index]
            if small > small_peak[index]:
                small_peak[index] = small
            if large > large_peak[index]:
                large_peak[index] = large
            if small + large > peak[index]:
                peak[index] = small + large

    def note_blocks(self) -> None:
        """Note the peaks of what a request raises; call before any of it falls."""
        self.blocks_rose = False
        self.note(OF_BLOCKS)

    def note_splits(self) -> None:
        """Note the peaks of ``inactive_split``; call before it falls."""
        self.splits_rose = False
        self.note(OF_SPLITS)

    def reset_peaks(self) -> None:
        """Set every peak to the present value, as ``reset_peak_memory_stats`` does."""
        for peak in (self.small.peak, self.large.peak, self.peak):
            peak[:] = _zeros()
        self.note(range(len(NAMES)))

    def as_stats(self) -> dict[str, int]:
        """Return what ``torch.cuda.memory_stats`` would, less ``max_split_size``."""
        self.note_blocks()
        self.note_splits()
        small, large = self.small, self.large
        stats: dict[str, int] = {}
        for index, name in enumerate(NAMES):
            both = small.up[index] + large.up[index], small.down[index] + large.down[index]
            values = {f"{name}.all": (*both, self.peak[index])}
            if index in (OVERSIZE_ALLOCATIONS, OVERSIZE_SEGMENTS):  # these know no pools
                values = {name: (*both, self.peak[index])}
            else:
                for pool, of in (("small_pool", small), ("large_pool", large)):
                    values[f"{name}.{pool}"] = of.up[index], of.down[index], of.peak[index]
            for key, (up, down, peak) in values.items():
                stats[f"{key}.current"] = up - down
                stats[f"{key}.peak"] = peak
                stats[f"{key}.allocated"] = up
                stats[f"{key}.freed"] = down
        return stats | self.events

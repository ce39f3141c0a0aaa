"""The counters of ``torch.cuda.memory_stats``, kept cheaply.

Each counter is a pair of running totals, up and down: ``current`` is their difference and
``allocated`` and ``freed`` are the totals themselves. A peak can only be reached just
before something falls, so peaks are noted then, and when they are read.
Source: ``c10/core/CachingDeviceAllocator.h`` of PyTorch 2.13.
"""

from dataclasses import dataclass, fields


@dataclass(slots=True, eq=False)
class Peaks:
    """The highest value seen of each counter, for one pool or for both together."""

    peak_active: int = 0
    peak_active_bytes: int = 0
    peak_allocated_bytes: int = 0
    peak_allocation: int = 0
    peak_inactive_split: int = 0
    peak_inactive_split_bytes: int = 0
    peak_requested_bytes: int = 0
    peak_reserved_bytes: int = 0
    peak_segment: int = 0


@dataclass(slots=True, eq=False)
class PoolCounters(Peaks):
    """Running totals of one pool. ``awaiting`` is freed, but still in use on a stream."""

    allocated_bytes_down: int = 0
    allocated_bytes_up: int = 0
    allocation_down: int = 0
    allocation_up: int = 0
    awaiting: int = 0
    awaiting_bytes: int = 0
    inactive_split_bytes_down: int = 0
    inactive_split_bytes_up: int = 0
    inactive_split_down: int = 0
    inactive_split_up: int = 0
    requested_bytes_down: int = 0
    requested_bytes_up: int = 0
    reserved_bytes_down: int = 0
    reserved_bytes_up: int = 0
    segment_down: int = 0
    segment_up: int = 0

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return (up, down) of every counter by its name."""
        return {
            "active": (self.allocation_up, self.allocation_down - self.awaiting),
            "active_bytes": (
                self.allocated_bytes_up,
                self.allocated_bytes_down - self.awaiting_bytes,
            ),
            "allocated_bytes": (self.allocated_bytes_up, self.allocated_bytes_down),
            "allocation": (self.allocation_up, self.allocation_down),
            "inactive_split": (self.inactive_split_up, self.inactive_split_down),
            "inactive_split_bytes": (self.inactive_split_bytes_up, self.inactive_split_bytes_down),
            "requested_bytes": (self.requested_bytes_up, self.requested_bytes_down),
            "reserved_bytes": (self.reserved_bytes_up, self.reserved_bytes_down),
            "segment": (self.segment_up, self.segment_down),
        }


class Oversize:
    """A counter of blocks or segments of at least ``max_split_size``; no pools."""

    __slots__ = ("down", "peak", "up")

    def __init__(self) -> None:
        self.up = self.down = self.peak = 0

    def rise(self) -> None:
        """Count one more."""
        self.up += 1
        self.peak = max(self.peak, self.up - self.down)

    def as_stats(self, name: str) -> dict[str, int]:
        """Return the four metrics under their names."""
        return {
            f"{name}.current": self.up - self.down,
            f"{name}.peak": self.peak,
            f"{name}.allocated": self.up,
            f"{name}.freed": self.down,
        }


class Counters:
    """All counters of a device.

    ``blocks_rose`` and ``splits_rose``: a request raised what ``note_blocks``, ``note_splits`` note.
    """

    def __init__(self, small: PoolCounters, large: PoolCounters) -> None:
        self.small = small
        self.large = large
        self.all = Peaks()
        self.blocks_rose = self.splits_rose = False
        self.num_alloc_retries = 0
        self.num_ooms = 0
        self.num_sync_all_streams = 0
        self.num_device_alloc = 0
        self.num_device_free = 0
        self.oversize_allocations = Oversize()
        self.oversize_segments = Oversize()

    def reserved_bytes(self) -> int:
        """Return the bytes held from the driver now."""
        small, large = self.small, self.large
        return (
            small.reserved_bytes_up
            - small.reserved_bytes_down
            + large.reserved_bytes_up
            - large.reserved_bytes_down
        )

    def current(self, name: str) -> int:
        """Return a counter's present value for both pools."""
        small, large = self.small.totals()[name], self.large.totals()[name]
        return small[0] - small[1] + large[0] - large[1]

    def note_blocks(self) -> None:
        """Note the peaks of what a request raises; call before any of it falls."""
        self.blocks_rose = False
        small, large, total = self.small, self.large, self.all
        a = small.allocated_bytes_up - small.allocated_bytes_down
        b = large.allocated_bytes_up - large.allocated_bytes_down
        if a > small.peak_allocated_bytes:
            small.peak_allocated_bytes = a
        if b > large.peak_allocated_bytes:
            large.peak_allocated_bytes = b
        if a + b > total.peak_allocated_bytes:
            total.peak_allocated_bytes = a + b
        c = small.allocation_up - small.allocation_down
        d = large.allocation_up - large.allocation_down
        if c > small.peak_allocation:
            small.peak_allocation = c
        if d > large.peak_allocation:
            large.peak_allocation = d
        if c + d > total.peak_allocation:
            total.peak_allocation = c + d
        e = small.requested_bytes_up - small.requested_bytes_down
        f = large.requested_bytes_up - large.requested_bytes_down
        if e > small.peak_requested_bytes:
            small.peak_requested_bytes = e
        if f > large.peak_requested_bytes:
            large.peak_requested_bytes = f
        if e + f > total.peak_requested_bytes:
            total.peak_requested_bytes = e + f
        if small.awaiting or large.awaiting:
            self._note_active(a, b, c, d)

    def _note_active(self, a: int, b: int, c: int, d: int) -> None:
        """Without anything awaiting, active equals allocated and needs no peak of its own."""
        small, large, total = self.small, self.large, self.all
        a += small.awaiting_bytes
        b += large.awaiting_bytes
        c += small.awaiting
        d += large.awaiting
        small.peak_active_bytes = max(small.peak_active_bytes, a)
        large.peak_active_bytes = max(large.peak_active_bytes, b)
        total.peak_active_bytes = max(total.peak_active_bytes, a + b)
        small.peak_active = max(small.peak_active, c)
        large.peak_active = max(large.peak_active, d)
        total.peak_active = max(total.peak_active, c + d)

    def note_splits(self) -> None:
        """Note the peaks of ``inactive_split``; call before it falls."""
        self.splits_rose = False
        small, large, total = self.small, self.large, self.all
        a = small.inactive_split_bytes_up - small.inactive_split_bytes_down
        b = large.inactive_split_bytes_up - large.inactive_split_bytes_down
        if a > small.peak_inactive_split_bytes:
            small.peak_inactive_split_bytes = a
        if b > large.peak_inactive_split_bytes:
            large.peak_inactive_split_bytes = b
        if a + b > total.peak_inactive_split_bytes:
            total.peak_inactive_split_bytes = a + b
        c = small.inactive_split_up - small.inactive_split_down
        d = large.inactive_split_up - large.inactive_split_down
        if c > small.peak_inactive_split:
            small.peak_inactive_split = c
        if d > large.peak_inactive_split:
            large.peak_inactive_split = d
        if c + d > total.peak_inactive_split:
            total.peak_inactive_split = c + d

    def note_segments(self) -> None:
        """Note the peaks of ``reserved`` and ``segment``; call after they have risen."""
        small, large, total = self.small, self.large, self.all
        for name in ("reserved_bytes", "segment"):
            values = [
                getattr(pool, f"{name}_up") - getattr(pool, f"{name}_down")
                for pool in (small, large)
            ]
            for holder, value in ((small, values[0]), (large, values[1]), (total, sum(values))):
                if value > getattr(holder, f"peak_{name}"):
                    setattr(holder, f"peak_{name}", value)

    def reset_peaks(self) -> None:
        """Set every peak to the present value, as ``reset_peak_memory_stats`` does."""
        for holder in (self.small, self.large, self.all):
            for item in fields(Peaks):
                setattr(holder, item.name, 0)
        for oversize in (self.oversize_allocations, self.oversize_segments):
            oversize.peak = oversize.up - oversize.down
        self.note_blocks()
        self.note_splits()
        self.note_segments()

    def as_stats(self) -> dict[str, int]:
        """Return what ``torch.cuda.memory_stats`` would, less ``max_split_size``."""
        self.note_blocks()
        self.note_splits()
        small, large = self.small.totals(), self.large.totals()
        stats: dict[str, int] = {}
        for name in small:
            up, down = (small[name][i] + large[name][i] for i in range(2))
            for pool, holder, totals in (
                ("small_pool", self.small, small[name]),
                ("large_pool", self.large, large[name]),
                ("all", self.all, (up, down)),
            ):
                key = f"{name}.{pool}"
                stats[f"{key}.current"] = totals[0] - totals[1]
                stats[f"{key}.peak"] = _peak(holder, name)
                stats[f"{key}.allocated"], stats[f"{key}.freed"] = totals
        for name, oversize in (
            ("oversize_allocations", self.oversize_allocations),
            ("oversize_segments", self.oversize_segments),
        ):
            stats.update(oversize.as_stats(name))
        stats["num_alloc_retries"] = self.num_alloc_retries
        stats["num_ooms"] = self.num_ooms
        stats["num_oom_rejections"] = 0
        stats["num_sync_all_streams"] = self.num_sync_all_streams
        stats["num_device_alloc"] = self.num_device_alloc
        stats["num_device_free"] = self.num_device_free
        return stats


def _peak(holder: Peaks, name: str) -> int:
    if name == "active":
        return max(holder.peak_active, holder.peak_allocation)
    if name == "active_bytes":
        return max(holder.peak_active_bytes, holder.peak_allocated_bytes)
    peak = getattr(holder, f"peak_{name}")
    assert isinstance(peak, int)
    return peak

"""Agreement of the allocator model with a recording."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Events at which the model and the recording say the same.

    Attributes:
        segment_events: recorded events that allocate or free segments.
        segment_events_matched: those the model produced too: same kind, address and size,
            at the same request or release.
        allocations: recorded allocations; ``allocations_matched`` lie at the same address.
        releases_whole: times the cache was emptied, in the model's own order;
            ``releases_single`` segments went back one by one (garbage collection).
        peak_reserved_bytes, recorded_peak_reserved_bytes: by the model, by the recording.
        blocks, blocks_matched: blocks in the snapshot's segments at the end, and those that
            the model has with the same address, size and state.
        fragmentation, recorded_fragmentation: share of reserved bytes not allocated, at
            the end; None where nothing is reserved.
        differences: the first few, a sentence each.
    """

    segment_events: int
    segment_events_matched: int
    allocations: int
    allocations_matched: int
    releases_whole: int
    releases_single: int
    peak_reserved_bytes: int
    recorded_peak_reserved_bytes: int
    peak_allocated_bytes: int
    blocks: int
    blocks_matched: int
    fragmentation: float | None
    recorded_fragmentation: float | None
    differences: tuple[str, ...]

    def is_complete(self) -> bool:
        """Return whether nothing differs."""
        return (
            self.segment_events == self.segment_events_matched
            and self.allocations == self.allocations_matched
            and self.blocks == self.blocks_matched
            and self.peak_reserved_bytes == self.recorded_peak_reserved_bytes
        )

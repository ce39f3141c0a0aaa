"""Agreement of the allocator model with a recording."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Events at which the model and the recording say the same.

    A block or segment event matches if its address, size and state, or kind, are the same.
    ``releases_whole`` counts how often the cache was emptied in the model's own order,
    ``releases_single`` the segments that went back one by one (garbage collection).
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

"""The model's reports in addition to counters: segment events, and running out of memory."""

from typing import Literal, NamedTuple

SegmentAction = Literal["segment_alloc", "segment_free", "segment_map", "segment_unmap"]


class SegmentEvent(NamedTuple):
    """Memory allocated from or returned to the driver, as a snapshot's trace names it."""

    action: SegmentAction
    address: int
    size_bytes: int
    stream: int


class OutOfMemoryError(RuntimeError):
    """A request that neither the pools nor the GPU can serve; the allocator stays valid.

    Attributes:
        requested_bytes: what the caller requested.
        rounded_bytes: the block it would have needed.
        segment_bytes: the segment the allocator tried to get ("Tried to allocate").
        allocated_bytes: allocated at that moment.
        reserved_bytes: held from the driver, after everything free was returned.
        free_bytes: what the driver had free, None on a GPU without end.
        limit_bytes: what the per-process fraction allows, None without one.
        total_bytes: the GPU's memory.
    """

    def __init__(
        self,
        *,
        requested_bytes: int,
        rounded_bytes: int,
        segment_bytes: int,
        allocated_bytes: int,
        reserved_bytes: int,
        free_bytes: int | None,
        limit_bytes: int | None,
        total_bytes: int | None,
    ) -> None:
        self.requested_bytes = requested_bytes
        self.rounded_bytes = rounded_bytes
        self.segment_bytes = segment_bytes
        self.allocated_bytes = allocated_bytes
        self.reserved_bytes = reserved_bytes
        self.free_bytes = free_bytes
        self.limit_bytes = limit_bytes
        self.total_bytes = total_bytes
        allowed = "" if limit_bytes is None else f", {limit_bytes} allowed"
        super().__init__(
            f"out of memory: {requested_bytes} bytes requested, a segment of {segment_bytes} "
            f"needed, {free_bytes} free{allowed}; {allocated_bytes} allocated, "
            f"{reserved_bytes} reserved"
        )

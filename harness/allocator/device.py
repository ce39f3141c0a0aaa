"""The GPU below the allocator: its bytes, where segments lie, and the events of both."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.allocator.addresses import AddressPolicy

SegmentAction = Literal["segment_alloc", "segment_free", "segment_map", "segment_unmap"]


class SegmentEvent(NamedTuple):
    """Memory allocated from or returned to the driver, as a snapshot's trace names it."""

    action: SegmentAction
    address: int
    size_bytes: int
    stream: int


@dataclass(eq=False, kw_only=True)
class OutOfMemoryError(RuntimeError):
    """A request that neither the pools nor the GPU can serve; the allocator stays valid."""

    requested_bytes: int
    segment_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    free_bytes: int | None
    limit_bytes: int | None

    def __str__(self) -> str:
        allowed = "" if self.limit_bytes is None else f", {self.limit_bytes} allowed"
        return (
            f"out of memory: {self.requested_bytes} bytes requested, a segment of "
            f"{self.segment_bytes} needed, {self.free_bytes} free{allowed}; "
            f"{self.allocated_bytes} allocated, {self.reserved_bytes} reserved"
        )


# Where a GPU without end is assumed, address ranges must still have an end.
_RANGE_OF_ENDLESS_GPU = 1 << 44


class Device:
    """Counts what is allocated from the GPU; knows no pools and no blocks."""

    def __init__(
        self, *, total_bytes: int | None, outside_bytes: int, addresses: AddressPolicy
    ) -> None:
        self.total_bytes = total_bytes
        self.used_bytes = outside_bytes
        self._addresses = addresses

    def free_bytes(self) -> int | None:
        """Return what is free, None on a GPU without a limit."""
        return None if self.total_bytes is None else max(0, self.total_bytes - self.used_bytes)

    def take(self, size_bytes: int) -> bool:
        """Take memory without an address (``cuMemCreate``); False when there is too little."""
        used = self.used_bytes + size_bytes
        if self.total_bytes is not None and used > self.total_bytes:
            return False
        self.used_bytes = used
        return True

    def give(self, size_bytes: int) -> None:
        """Free such memory."""
        self.used_bytes -= size_bytes

    def malloc(self, size_bytes: int) -> int | None:
        """Allocate a segment (``cudaMalloc``); return its address, None without enough memory."""
        return self._addresses.place(size_bytes) if self.take(size_bytes) else None

    def free(self, address: int, size_bytes: int) -> None:
        """Free a segment (``cudaFree``)."""
        self.give(size_bytes)
        self._addresses.release(address, size_bytes)

    def reserve(self, unit_bytes: int) -> tuple[int, int]:
        """Reserve addresses for one expandable segment; return its address and its bytes."""
        size = self.range_size(unit_bytes)
        return self._addresses.place(size), size

    def range_size(self, unit_bytes: int) -> int:
        """Return 1 1/8 times the GPU, as ``ExpandableSegment`` reserves, in whole units."""
        total = _RANGE_OF_ENDLESS_GPU if self.total_bytes is None else self.total_bytes
        return -(-(total + total // 8) // unit_bytes) * unit_bytes

    def unreserve(self, address: int, size_bytes: int) -> None:
        """Drop such a reservation."""
        self._addresses.release(address, size_bytes)

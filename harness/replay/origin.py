"""How things stood when a recording began: the trace run backwards from its end.

A snapshot holds the segments at its end. Undoing the events from the last to the first
leads to the beginning; what was handed out before and never freed is still there.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.prediction.caching_allocator import AllocatorConfig, BlockState, SegmentState
from harness.prediction.caching_allocator.config import SMALL_REQUEST_BYTES, SMALL_SEGMENT_BYTES
from harness.replay.snapshot import RecordedSegment, Snapshot, TraceEvent

FREE, ALLOCATED, AWAITING = "free", "allocated", "awaiting"
_GAINS = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The beginning of a recording.

    Attributes:
        live: bytes asked for of every block handed out at the beginning, by address.
        streams: the stream of each of them.
        reserved_bytes: what was taken from the driver.
        layout: the segments with their blocks; None where they cannot be derived.
        why_not: the reason then, in a sentence; empty otherwise.

    """

    live: Mapping[int, int]
    streams: Mapping[int, int]
    reserved_bytes: int
    layout: tuple[SegmentState, ...] | None
    why_not: str

    def handed_out(self) -> Iterator[int]:
        """Yield the address of every block in use, those that await a stream among them."""
        yield from self.live
        for segment in self.layout or ():
            address = segment.address
            for block in segment.blocks:
                if block.state == AWAITING:
                    yield address
                address += block.size_bytes

    def is_start(self) -> bool:
        """Tell whether nothing was reserved: the recording has everything."""
        return self.reserved_bytes == 0 and not self.live


class _Underivable(Exception):  # noqa: N818 -- a way out, never seen by a caller
    """The events and the segments do not fit together."""


def find_origin(
    snapshot: Snapshot, events: Sequence[TraceEvent], config: AllocatorConfig
) -> Origin:
    """Return how things stood before ``events``, which end where the segments were recorded."""
    segments = [segment for segment in snapshot.segments if not segment.private]
    live, streams = _live_at_start(segments, events)
    reserved = sum(segment.size_bytes for segment in segments)
    reserved -= sum(_GAINS.get(event.action, 0) * event.size_bytes for event in events)
    if reserved == 0 and not live:
        layout: tuple[SegmentState, ...] | None = ()
        why_not = ""
    else:
        layout, why_not = _layout_at_start(segments, events, config)
    return Origin(
        live=live, streams=streams, reserved_bytes=reserved, layout=layout, why_not=why_not
    )


def _live_at_start(
    segments: Sequence[RecordedSegment], events: Sequence[TraceEvent]
) -> tuple[dict[int, int], dict[int, int]]:
    live: dict[int, int] = {}
    streams: dict[int, int] = {}
    for segment in segments:
        for block in segment.blocks:
            if block.state == "active_allocated":
                live[block.address] = block.requested_bytes
                streams[block.address] = segment.stream
    for event in reversed(events):
        if event.action == "alloc":
            live.pop(event.address, None)
        elif event.action == "free_requested":
            live[event.address] = event.size_bytes
            streams[event.address] = event.stream
    return live, {address: streams[address] for address in live}


def _layout_at_start(
    segments: Sequence[RecordedSegment], events: Sequence[TraceEvent], config: AllocatorConfig
) -> tuple[tuple[SegmentState, ...] | None, str]:
    if any(segment.is_expandable for segment in segments) or any(
        event.action in ("segment_map", "segment_unmap") for event in events
    ):
        return None, "the address ranges of expandable segments are not recorded"
    past = _Past(segments, config)
    completes = any(event.action == "free_completed" for event in events)
    try:
        for event in reversed(events):
            past.undo(event, completes=completes)
    except _Underivable as error:
        return None, str(error)
    return past.as_states(), ""


class _PastSegment:
    """A segment on its way back; blocks as (address, size, requested, state), in order."""

    def __init__(self, address: int, size: int, stream: int, *, is_large: bool) -> None:
        self.address = address
        self.stream = stream
        self.is_large = is_large
        self.blocks: list[tuple[int, int, int, str]] = [(address, size, 0, FREE)]

    def index_at(self, address: int) -> int:
        """Return the index of the block that holds ``address``."""
        return bisect_right(self.blocks, (address, 1 << 64, 0, "")) - 1

    def set_free(self, index: int) -> None:
        """Free a block and merge it with its free neighbours."""
        first = index - (index > 0 and self.blocks[index - 1][3] == FREE)
        last = index + (index + 1 < len(self.blocks) and self.blocks[index + 1][3] == FREE)
        size = sum(block[1] for block in self.blocks[first : last + 1])
        self.blocks[first : last + 1] = [(self.blocks[first][0], size, 0, FREE)]

    def carve(self, index: int, address: int, size: int, requested: int) -> None:
        """Cut an awaiting block out of a free one."""
        start, length, _, _ = self.blocks[index]
        pieces = [(address, size, requested, AWAITING)]
        if address > start:
            pieces.insert(0, (start, address - start, 0, FREE))
        if address + size < start + length:
            pieces.append((address + size, start + length - address - size, 0, FREE))
        self.blocks[index : index + 1] = pieces

    def as_state(self) -> SegmentState:
        """Return the segment; a free end too short to exist belongs to the block before it."""
        parts: list[BlockState] = []
        for _, size, requested, state in self.blocks:
            if self.is_large and state == FREE and size <= SMALL_REQUEST_BYTES and parts:
                before = parts[-1]
                parts[-1] = before._replace(size_bytes=before.size_bytes + size)
            elif state == AWAITING:
                parts.append(BlockState(size, requested, "awaiting"))
            else:
                parts.append(BlockState(size, requested, "allocated" if requested else "free"))
        return SegmentState(
            address=self.address,
            stream=self.stream,
            is_large=self.is_large,
            is_expandable=False,
            blocks=tuple(parts),
        )


class _Past:
    """All segments on their way back."""

    def __init__(self, segments: Sequence[RecordedSegment], config: AllocatorConfig) -> None:
        self._config = config
        self._starts: list[int] = []
        self._segments: dict[int, _PastSegment] = {}
        states = {"active_allocated": ALLOCATED, "inactive": FREE}
        for segment in segments:
            past = self._add(
                segment.address, segment.size_bytes, segment.stream, is_large=segment.is_large
            )
            past.blocks = [
                (b.address, b.size_bytes, b.requested_bytes, states.get(b.state, AWAITING))
                for b in segment.blocks
            ]

    def _add(self, address: int, size: int, stream: int, *, is_large: bool) -> _PastSegment:
        if address in self._segments:
            raise _Underivable(f"two segments at {address:#x} at one time")
        insort(self._starts, address)
        self._segments[address] = _PastSegment(address, size, stream, is_large=is_large)
        return self._segments[address]

    def _find(self, address: int) -> tuple[_PastSegment, int]:
        position = bisect_right(self._starts, address) - 1
        if position < 0:
            raise _Underivable(f"an event at {address:#x}, where no segment was")
        segment = self._segments[self._starts[position]]
        return segment, segment.index_at(address)

    def undo(self, event: TraceEvent, *, completes: bool) -> None:
        """Undo one event; without ``completes`` a requested free is the whole free."""
        action = event.action
        if action == "alloc":
            self._undo_alloc(event)
        elif action == "free_completed":
            self._undo_completion(event)
        elif action == "free_requested":
            if not completes:
                self._undo_completion(event)
            self._undo_request(event)
        elif action == "segment_alloc":
            self._undo_segment_alloc(event)
        elif action == "segment_free":
            is_large = event.size_bytes != SMALL_SEGMENT_BYTES
            self._add(event.address, event.size_bytes, event.stream, is_large=is_large)

    def _undo_alloc(self, event: TraceEvent) -> None:
        segment, index = self._find(event.address)
        address, _, _, state = segment.blocks[index]
        if address != event.address or state != ALLOCATED:
            raise _Underivable(f"an allocation at {event.address:#x} that was not there")
        segment.set_free(index)

    def _undo_completion(self, event: TraceEvent) -> None:
        segment, index = self._find(event.address)
        start, length, _, state = segment.blocks[index]
        room = start + length - event.address
        size = self._config.round_request(event.size_bytes)
        if state != FREE or size > room:
            raise _Underivable(f"a release at {event.address:#x} that was not free afterwards")
        if segment.is_large and room - size <= SMALL_REQUEST_BYTES:
            size = room
        segment.carve(index, event.address, size, event.size_bytes)

    def _undo_request(self, event: TraceEvent) -> None:
        segment, index = self._find(event.address)
        address, size, requested, state = segment.blocks[index]
        if address != event.address or state != AWAITING:
            raise _Underivable(f"a release at {event.address:#x} that was not completed")
        segment.blocks[index] = (address, size, requested, ALLOCATED)

    def _undo_segment_alloc(self, event: TraceEvent) -> None:
        segment = self._segments.get(event.address)
        if segment is None or [(b[1], b[3]) for b in segment.blocks] != [(event.size_bytes, FREE)]:
            raise _Underivable(f"a segment at {event.address:#x} that was in use before it came")
        del self._segments[event.address]
        self._starts.remove(event.address)

    def as_states(self) -> tuple[SegmentState, ...]:
        """Return what is left, lowest address first."""
        return tuple(self._segments[start].as_state() for start in self._starts)

"""State at the start of a recording: the trace run backwards from its end.

A snapshot holds the segments at its end. Undoing the events from the last to the first
leads to the beginning; what was allocated before and never freed is still there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.allocator import AllocatorConfig, SegmentState
from harness.snapshots.recorded_segment import RecordedSegment
from harness.snapshots.rewind import AWAITING, Past, UnderivableError
from harness.snapshots.snapshot import Snapshot
from harness.snapshots.trace_event import TraceEvent

_GAINS = {"segment_alloc": 1, "segment_map": 1, "segment_free": -1, "segment_unmap": -1}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The beginning of a recording.

    Attributes:
        live: bytes asked for of every block allocated at the beginning, by address.
        streams: the stream of each of them.
        reserved_bytes: what was reserved.
        layout: the segments with their blocks; None where they cannot be derived.
        why_not: the reason then, in a sentence; empty otherwise.
        uncertain_blocks: blocks that may be up to 1 MiB longer than the layout says: a
            large block keeps a short rest, and a trace shows requested sizes only.
    """

    live: Mapping[int, int]
    streams: Mapping[int, int]
    reserved_bytes: int
    layout: tuple[SegmentState, ...] | None
    why_not: str
    uncertain_blocks: int

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
        """Return whether the recording begins before anything was reserved."""
        return self.reserved_bytes == 0 and not self.live


def find_origin(
    snapshot: Snapshot, events: Sequence[TraceEvent], config: AllocatorConfig
) -> Origin:
    """Return how things stood before ``events``, which end where the segments were recorded."""
    segments = snapshot.segments
    live, streams = _live_at_start(segments, events)
    reserved = sum(segment.size_bytes for segment in segments)
    reserved -= sum(_GAINS.get(event.action, 0) * event.size_bytes for event in events)
    if reserved == 0 and not live:
        layout: tuple[SegmentState, ...] | None = ()
        why_not, uncertain = "", 0
    else:
        layout, why_not, uncertain = _layout_at_start(segments, events, config)
    return Origin(
        live=live,
        streams=streams,
        reserved_bytes=reserved,
        layout=layout,
        why_not=why_not,
        uncertain_blocks=uncertain,
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
) -> tuple[tuple[SegmentState, ...] | None, str, int]:
    try:
        past = Past(segments, events, config)
        for event in reversed(events):
            past.undo(event)
        return past.as_states(), "", past.uncertain_blocks()
    except UnderivableError as error:
        return None, str(error), 0

"""Segments on their way back in time: every event of a trace can be undone.

Kept are the stretches of memory from the driver, each a segment or a mapped part of an expandable
one, and the blocks in use; the space between them is free. The address ranges of expandable
segments are not recorded; a range is taken to begin where memory was first mapped in it: a
boundary of its units, so it makes no difference.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks.validation.layout import BlockState, SegmentState
from harness.allocator import AllocatorConfig
from harness.allocator.config import SMALL_REQUEST_BYTES, SMALL_SEGMENT_BYTES
from harness.snapshots.snapshot import Snapshot
from harness.snapshots.trace_event import RecordedSegment, TraceEvent

ALLOCATED: Final = "allocated"
AWAITING: Final = "awaiting"
_REQUESTS = frozenset({"alloc", "free_requested"})


class UnderivableError(Exception):
    """The events and the segments do not fit together."""


class Layout(NamedTuple):
    """The segments at the beginning of a recording.

    ``uncertain_blocks`` may be up to 1 MiB longer than it says: a large block keeps a short rest,
    and a trace shows requested sizes only.
    """

    segments: tuple[SegmentState, ...]
    uncertain_blocks: int


def find_layout(
    snapshot: Snapshot, events: Sequence[TraceEvent], config: AllocatorConfig
) -> Layout:
    """Return the segments before ``events``, which end where the segments were recorded."""
    past = Past(snapshot.segments, events, config)
    for event in reversed(events):
        past.undo(event)
    return Layout(past.as_states(), past.uncertain_blocks())


class _Stretch(NamedTuple):
    start: int
    end: int
    stream: int
    is_large: bool
    is_expandable: bool

    def key(self) -> tuple[int, bool]:
        """Return what stretches of one address range have in common."""
        return self.stream, self.is_large


class Past:
    """The segments of a recording while its events are undone, the last one first."""

    def __init__(
        self,
        segments: Sequence[RecordedSegment],
        events: Sequence[TraceEvent],
        config: AllocatorConfig,
    ) -> None:
        self._config = config
        self._stretches: list[_Stretch] = []
        self._lowest: dict[tuple[int, ...], int] = {}
        self._used: dict[int, BlockState] = {}
        self._addresses: list[int] = []
        self._guessed: set[int] = set()
        self._requests = sorted(
            (event.address, event.size_bytes) for event in events if event.action in _REQUESTS
        )
        for segment in segments:
            end = segment.address + segment.size_bytes
            kind = segment.kind == "large", segment.is_expandable
            self._add(_Stretch(segment.address, end, segment.stream, *kind))
            for block in segment.blocks:
                if block.state != "inactive":
                    used = BlockState(block.size_bytes, block.requested_bytes, AWAITING)
                    if block.state == "active_allocated":
                        used = used._replace(state=ALLOCATED)
                    self._use(block.address, used)

    def _add(self, stretch: _Stretch) -> None:
        index = bisect_left(self._stretches, (stretch.start,))
        if any(each.start == stretch.start for each in self._stretches[index : index + 1]):
            raise UnderivableError(f"two segments at {stretch.start:#x} at one time")
        self._stretches.insert(index, stretch)

    def _remove(self, stretch: _Stretch) -> None:
        del self._stretches[bisect_left(self._stretches, stretch)]

    def _find(self, address: int) -> _Stretch:
        """Return the stretch that begins at or before an address."""
        index = bisect_left(self._stretches, (address + 1,)) - 1
        if index < 0:
            raise UnderivableError(f"an event at {address:#x}, where no segment was")
        return self._stretches[index]

    def _use(self, address: int, block: BlockState) -> None:
        self._used[address] = block
        insort(self._addresses, address)

    def _room(self, address: int) -> int:
        """Return the free bytes from ``address`` on, at most 0 where it is in use."""
        stretch = self._find(address)
        index = bisect_right(self._addresses, address)
        if index > 0:
            before = self._addresses[index - 1]
            if before + self._used[before].size_bytes > address:
                return 0
        following = self._addresses[index] if index < len(self._addresses) else stretch.end
        return min(following, stretch.end) - address

    def undo(self, event: TraceEvent) -> None:
        """Undo one event."""
        action, address, size = event.action, event.address, event.size_bytes
        if action in ("alloc", "free_requested"):
            block = self._used.get(address)
            state = ALLOCATED if action == "alloc" else AWAITING
            if block is None or block.state != state:
                raise UnderivableError(f"a block at {address:#x} that was not {state} afterwards")
            if action == "alloc":
                self._guessed.discard(address)
                del self._used[address]
                del self._addresses[bisect_left(self._addresses, address)]
            else:
                self._used[address] = block._replace(state=ALLOCATED)
        elif action == "free_completed":
            self._undo_completion(event)
        elif action == "segment_alloc":
            stretch = self._find(address)
            whole = (stretch.start, stretch.end) == (address, address + size)
            if not whole or self._room(address) != size:
                raise UnderivableError(f"memory at {address:#x} was used before it was allocated")
            self._remove(stretch)
        elif action == "segment_free":
            is_large = size != SMALL_SEGMENT_BYTES
            self._add(_Stretch(address, address + size, event.stream, is_large, False))
        elif action == "segment_map":
            self._undo_map(event)
        elif action == "segment_unmap":
            self._undo_unmap(event)

    def _undo_completion(self, event: TraceEvent) -> None:
        room = self._room(event.address)
        size = self._config.round_request(event.size_bytes)
        if size > room:
            raise UnderivableError(f"a release at {event.address:#x} that was not free afterwards")
        stretch = self._find(event.address)
        splits_finely = stretch.is_expandable or self._config.expandable_segments
        if stretch.is_large and not splits_finely:
            # Such a rest is never split off: the block had it.
            oversize = size >= self._config.max_split_size_bytes
            if oversize or room - size <= SMALL_REQUEST_BYTES:
                size = room
            else:
                self._guessed.add(event.address)
        self._use(event.address, BlockState(size, event.size_bytes, AWAITING))

    def _undo_map(self, event: TraceEvent) -> None:
        """Take the mapped bytes out again: what lies before and behind are two stretches."""
        stretch = self._find(event.address)
        end = event.address + event.size_bytes
        if self._room(event.address) < event.size_bytes or not stretch.is_expandable:
            raise UnderivableError(f"memory at {event.address:#x} was used before it was allocated")
        self._remove(stretch)
        for low, high in ((stretch.start, event.address), (end, stretch.end)):
            if low < high:
                self._add(stretch._replace(start=low, end=high))
        key = stretch.key()
        if any(each.key() == key for each in self._stretches):
            # Mapped while the range held more: the range reaches down to here at least.
            self._lowest[key] = min(event.address, self._lowest.get(key, event.address))

    def _undo_unmap(self, event: TraceEvent) -> None:
        """Put free memory back, and join it to the stretches that it touches."""
        low, high = event.address, event.address + event.size_bytes
        index = bisect_left(self._stretches, (low,))
        touching = [
            stretch
            for stretch in self._stretches[max(0, index - 1) : index + 1]
            if stretch.is_expandable and (stretch.end == low or stretch.start == high)
        ]
        for stretch in touching:
            self._remove(stretch)
            low, high = min(low, stretch.start), max(high, stretch.end)
        is_large = touching[0].is_large if touching else self._was_large(event)
        self._add(_Stretch(low, high, event.stream, is_large, True))

    def _was_large(self, event: TraceEvent) -> bool:
        """Tell the pool of memory that went back, by a request that lay in it."""
        index = bisect_left(self._requests, (event.address, 0))
        if index < len(self._requests):
            address, size = self._requests[index]
            if address < event.address + event.size_bytes:
                return self._config.round_request(size) > SMALL_REQUEST_BYTES
        return event.size_bytes % self._config.large_segment_size_bytes == 0

    def uncertain_blocks(self) -> int:
        """Return how many blocks may be up to 1 MiB longer than ``as_states`` says.

        They lie before free memory of the large pool, and nothing says where it began.
        """
        ends = {address: address + self._used[address].size_bytes for address in self._guessed}
        return sum(
            end < self._find(address).end and end not in self._used for address, end in ends.items()
        )

    def _parts(self, stretch: _Stretch) -> list[BlockState]:
        """Return the blocks; a free end too short to exist belongs to the block before it."""
        start = stretch.start
        first = bisect_left(self._addresses, start)
        inside = self._addresses[first : bisect_left(self._addresses, stretch.end)]
        least = 0 if stretch.is_expandable or not stretch.is_large else SMALL_REQUEST_BYTES
        parts: list[BlockState] = []
        for address in (*inside, stretch.end):
            gap = address - start
            if 0 < gap <= least and parts:
                parts[-1] = parts[-1]._replace(size_bytes=parts[-1].size_bytes + gap)
            elif gap > 0:
                parts.append(BlockState(gap, 0, "free"))
            if address < stretch.end:
                parts.append(self._used[address])
                start = address + self._used[address].size_bytes
        return parts

    def as_states(self) -> tuple[SegmentState, ...]:
        """Return what is left, lowest address first; stretches of one range as one."""
        ranges: dict[tuple[int, ...], tuple[int, _Stretch, list[BlockState]]] = {}
        ends: dict[tuple[int, ...], int] = {}
        for stretch in self._stretches:
            start = stretch.start
            key: tuple[int, ...] = stretch.key() if stretch.is_expandable else (start,)
            if key in ranges:
                parts = ranges[key][2]
                parts.append(BlockState(start - ends[key], 0, "unmapped"))
            else:
                lowest = self._lowest.get(key, start)
                parts = [BlockState(start - lowest, 0, "unmapped")] if lowest < start else []
                ranges[key] = (min(lowest, start), stretch, parts)
            parts += self._parts(stretch)
            ends[key] = stretch.end
        states = [
            SegmentState(
                address=address,
                stream=stretch.stream,
                is_large=stretch.is_large,
                is_expandable=stretch.is_expandable,
                blocks=tuple(parts),
            )
            for address, stretch, parts in ranges.values()
        ]
        return tuple(sorted(states, key=lambda state: state.address))

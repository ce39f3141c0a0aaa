"""Segments on their way back in time: every event of a trace can be undone.

Expandable segments are kept as stretches of mapped memory. Their address ranges are not
recorded; a range is taken to begin where memory was first mapped in it, which lies on a
boundary of its units and so makes no difference.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

from harness.allocator import AllocatorConfig, BlockState, SegmentState
from harness.allocator.config import SMALL_REQUEST_BYTES, SMALL_SEGMENT_BYTES
from harness.snapshots.trace_event import RecordedSegment, TraceEvent

State = Literal["free", "allocated", "awaiting"]
FREE: Final = "free"
ALLOCATED: Final = "allocated"
AWAITING: Final = "awaiting"

PastBlock = tuple[int, int, int, State]
_REQUESTS = frozenset({"alloc", "free_requested"})
_STATES: dict[str, State] = {"active_allocated": ALLOCATED, "inactive": FREE}


class UnderivableError(Exception):
    """The events and the segments do not fit together."""


class PastSegment:
    """A segment, or a mapped stretch; blocks as (address, size, requested, state), in order."""

    def __init__(
        self, address: int, size: int, stream: int, *, is_large: bool, is_expandable: bool
    ) -> None:
        self.address = address
        self.stream = stream
        self.is_large = is_large
        self.is_expandable = is_expandable
        self.blocks: list[PastBlock] = [(address, size, 0, FREE)]

    def end(self) -> int:
        """Return the first address behind it."""
        return self.blocks[-1][0] + self.blocks[-1][1]

    def key(self) -> tuple[int, bool]:
        """Return what stretches of one address range have in common."""
        return self.stream, self.is_large

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
        pieces: list[PastBlock] = [(address, size, requested, AWAITING)]
        if address > start:
            pieces.insert(0, (start, address - start, 0, FREE))
        if address + size < start + length:
            pieces.append((address + size, start + length - address - size, 0, FREE))
        self.blocks[index : index + 1] = pieces

    def parts(self) -> list[BlockState]:
        """Return the blocks; a free end too short to exist belongs to the block before it."""
        parts: list[BlockState] = []
        for _, size, requested, state in self.blocks:
            short = size <= SMALL_REQUEST_BYTES and self.is_large and not self.is_expandable
            if state == FREE and short and parts:
                parts[-1] = parts[-1]._replace(size_bytes=parts[-1].size_bytes + size)
            else:
                parts.append(BlockState(size, requested, state))
        return parts


class Past:
    """The segments of a recording while its events are undone, the last one first."""

    def __init__(
        self,
        segments: Sequence[RecordedSegment],
        events: Sequence[TraceEvent],
        config: AllocatorConfig,
    ) -> None:
        self._config = config
        self._starts: list[int] = []
        self._segments: dict[int, PastSegment] = {}
        self._ends: dict[int, int] = {}
        self._of_key: Counter[tuple[int, bool]] = Counter()
        self._lowest: dict[tuple[int, ...], int] = {}
        self._guessed: set[int] = set()
        self._requests = sorted(
            (event.address, event.size_bytes) for event in events if event.action in _REQUESTS
        )
        for segment in segments:
            past = PastSegment(
                segment.address,
                segment.size_bytes,
                segment.stream,
                is_large=segment.is_large,
                is_expandable=segment.is_expandable,
            )
            past.blocks = [
                (b.address, b.size_bytes, b.requested_bytes, _STATES.get(b.state, AWAITING))
                for b in segment.blocks
            ]
            self._add(past)

    def _add(self, segment: PastSegment) -> None:
        if segment.address in self._segments:
            raise UnderivableError(f"two segments at {segment.address:#x} at one time")
        insort(self._starts, segment.address)
        self._segments[segment.address] = segment
        self._ends[segment.end()] = segment.address
        self._of_key[segment.key()] += 1

    def _remove(self, segment: PastSegment) -> None:
        del self._segments[segment.address]
        self._ends.pop(segment.end(), None)
        self._of_key[segment.key()] -= 1
        del self._starts[bisect_left(self._starts, segment.address)]

    def _find(self, address: int) -> tuple[PastSegment, int]:
        position = bisect_right(self._starts, address) - 1
        if position < 0:
            raise UnderivableError(f"an event at {address:#x}, where no segment was")
        segment = self._segments[self._starts[position]]
        return segment, segment.index_at(address)

    def undo(self, event: TraceEvent) -> None:
        """Undo one event."""
        action = event.action
        if action == "alloc":
            self._undo_alloc(event)
        elif action == "free_completed":
            self._undo_completion(event)
        elif action == "free_requested":
            self._undo_request(event)
        elif action == "segment_alloc":
            self._undo_segment_alloc(event)
        elif action == "segment_free":
            is_large = event.size_bytes != SMALL_SEGMENT_BYTES
            self._add(_free_segment(event, is_large=is_large, is_expandable=False))
        elif action == "segment_map":
            self._undo_map(event)
        elif action == "segment_unmap":
            self._undo_unmap(event)

    def _undo_alloc(self, event: TraceEvent) -> None:
        segment, index = self._find(event.address)
        address, _, _, state = segment.blocks[index]
        if address != event.address or state != ALLOCATED:
            raise UnderivableError(f"an allocation at {event.address:#x} that was not there")
        self._guessed.discard(address)
        segment.set_free(index)

    def _undo_completion(self, event: TraceEvent) -> None:
        segment, index = self._find(event.address)
        start, length, _, state = segment.blocks[index]
        room = start + length - event.address
        size = self._config.round_request(event.size_bytes)
        if state != FREE or size > room:
            raise UnderivableError(f"a release at {event.address:#x} that was not free afterwards")
        splits_finely = segment.is_expandable or self._config.expandable_segments
        if segment.is_large and not splits_finely:
            # Such a rest is never split off: the block had it.
            oversize = size >= self._config.max_split_size_bytes
            if oversize or room - size <= SMALL_REQUEST_BYTES:
                size = room
            else:
                self._guessed.add(event.address)
        segment.carve(index, event.address, size, event.size_bytes)

    def _undo_request(self, event: TraceEvent) -> None:
        segment, index = self._find(event.address)
        address, size, requested, state = segment.blocks[index]
        if address != event.address or state != AWAITING:
            raise UnderivableError(f"a release at {event.address:#x} that was not completed")
        segment.blocks[index] = (address, size, requested, ALLOCATED)

    def _undo_segment_alloc(self, event: TraceEvent) -> None:
        segment = self._segments.get(event.address)
        if segment is None or [(b[1], b[3]) for b in segment.blocks] != [(event.size_bytes, FREE)]:
            raise UnderivableError(
                f"a segment at {event.address:#x} was in use before it was allocated"
            )
        self._remove(segment)

    def _undo_map(self, event: TraceEvent) -> None:
        """Take the mapped bytes out again: what lies before and behind are two stretches."""
        segment, index = self._find(event.address)
        start, length, _, state = segment.blocks[index]
        end, last = event.address + event.size_bytes, start + length
        if state != FREE or end > last or not segment.is_expandable:
            raise UnderivableError(
                f"memory at {event.address:#x} was in use before it was allocated"
            )
        before, after = segment.blocks[:index], segment.blocks[index + 1 :]
        if start < event.address:
            before.append((start, event.address - start, 0, FREE))
        if end < last:
            after.insert(0, (end, last - end, 0, FREE))
        self._remove(segment)
        for blocks in (before, after):
            if blocks:
                piece = PastSegment(
                    blocks[0][0], 0, segment.stream, is_large=segment.is_large, is_expandable=True
                )
                piece.blocks = blocks
                self._add(piece)
        key = (segment.stream, segment.is_large)
        if self._of_key[key] > 0:
            # Mapped while the range held more: the range reaches down to here at least.
            self._lowest[key] = min(event.address, self._lowest.get(key, event.address))

    def _undo_unmap(self, event: TraceEvent) -> None:
        """Put free memory back, and join it to the stretches that it touches."""
        end = event.address + event.size_bytes
        neighbours = (
            self._segments.get(start) for start in (self._ends.get(event.address, -1), end)
        )
        touching = [each for each in neighbours if each is not None and each.is_expandable]
        is_large = touching[0].is_large if touching else self._was_large(event)
        stretch = _free_segment(event, is_large=is_large, is_expandable=True)
        for each in touching:
            self._remove(each)
            if each.address == end:
                stretch.blocks += each.blocks
            else:
                stretch.blocks[:0] = each.blocks
                stretch.address = each.address
        stretch.set_free(stretch.index_at(event.address))
        self._add(stretch)

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
        return sum(
            block[0] in self._guessed and following[3] == FREE
            for segment in self._segments.values()
            for block, following in pairwise(segment.blocks)
        )

    def as_states(self) -> tuple[SegmentState, ...]:
        """Return what is left, lowest address first; stretches of one range as one."""
        ranges: dict[tuple[int, ...], tuple[int, PastSegment, list[BlockState]]] = {}
        ends: dict[tuple[int, ...], int] = {}
        for start in self._starts:
            segment = self._segments[start]
            key: tuple[int, ...] = segment.key() if segment.is_expandable else (start,)
            if key in ranges:
                parts = ranges[key][2]
                parts.append(BlockState(start - ends[key], 0, "unmapped"))
            else:
                lowest = self._lowest.get(key, start) if segment.is_expandable else start
                parts = [BlockState(start - lowest, 0, "unmapped")] if lowest < start else []
                ranges[key] = (min(lowest, start), segment, parts)
            parts += segment.parts()
            ends[key] = segment.end()
        states = [
            SegmentState(
                address=address,
                stream=segment.stream,
                is_large=segment.is_large,
                is_expandable=segment.is_expandable,
                blocks=tuple(parts),
            )
            for address, segment, parts in ranges.values()
        ]
        return tuple(sorted(states, key=lambda state: state.address))


def _free_segment(event: TraceEvent, *, is_large: bool, is_expandable: bool) -> PastSegment:
    return PastSegment(
        event.address,
        event.size_bytes,
        event.stream,
        is_large=is_large,
        is_expandable=is_expandable,
    )

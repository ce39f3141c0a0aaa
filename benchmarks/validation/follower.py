"""A recording's requests and releases given to the model, event by event.

The model decides by itself where each block lies, when a segment is needed and how large;
the recording only says where the driver put it. What cannot follow from the requests is
read from the recording: when the cache was emptied, and when other streams were done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from pathlib import Path

from benchmarks.validation.following_allocator import FollowingAllocator
from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    Ascending,
    OutOfMemoryError,
    SegmentEvent,
)
from harness.allocator.blocks import ALLOCATED, AWAITING, FREE, POOL_SHIFT, UNMAPPED
from harness.snapshots.device_history import device_histories
from harness.snapshots.operations import FREE_AT_ONCE, SOME_STREAM, operations
from harness.snapshots.pools import is_private
from harness.snapshots.snapshot import Snapshot, read_recording
from harness.snapshots.trace_event import SEGMENT_ACTIONS, TAKING, TraceEvent, reserved_change


@dataclass(kw_only=True)
class Agreement:
    """Events at which the model and the recording say the same.

    A block or segment event matches if its address, size and state, or kind, are the same.
    """

    segment_events: int = 0
    segment_events_matched: int = 0
    allocations: int = 0
    allocations_matched: int = 0
    peak_reserved_bytes: int = 0
    recorded_peak_reserved_bytes: int = 0
    blocks: int = 0
    blocks_matched: int = 0
    differences: list[str] = field(default_factory=list)

    def is_complete(self) -> bool:
        """Return whether nothing differs."""
        return (
            self.segment_events == self.segment_events_matched
            and self.allocations == self.allocations_matched
            and self.blocks == self.blocks_matched
            and self.peak_reserved_bytes == self.recorded_peak_reserved_bytes
        )


class _AsRecorded(AddressPolicy):
    """Places segments where the recording has the next ones; far away if it has none."""

    def __init__(self) -> None:
        self.upcoming: list[int] = []
        self._elsewhere = Ascending(1 << 62)

    def place(self, size_bytes: int) -> int:
        """Return the next recorded address."""
        return self.upcoming.pop(0) if self.upcoming else self._elsewhere.place(size_bytes)


class Follower:
    """Follows one recording; ``run`` once, then ask."""

    def __init__(self, config: AllocatorConfig) -> None:
        self._addresses = _AsRecorded()
        self.model = FollowingAllocator(config, addresses=self._addresses)
        self._reserved = 0
        self._result = Agreement()
        self._where: dict[int, int] = {}
        self._pending: list[TraceEvent] = []

    def run(self, events: Sequence[TraceEvent]) -> None:
        """Give every event to the model."""
        for _, event in chain(operations(events), [(-1, None)]):
            try:
                self._apply(event)
            except (OutOfMemoryError, ValueError) as error:
                self._differ(f"the recording contradicts itself: {error}")
                self._expect_nothing()

    def _apply(self, event: TraceEvent | None) -> None:
        """Give one event to the model; None is the end of the recording."""
        if event is None:
            self._flush()
        elif event.action in SEGMENT_ACTIONS:
            self._pending.append(event)
            self._reserved += reserved_change(event)
            result = self._result
            result.segment_events += 1
            result.recorded_peak_reserved_bytes = max(
                result.recorded_peak_reserved_bytes, self._reserved
            )
            if event.action not in TAKING and is_private(event):
                # Its pool can be freed now; since when is not recorded.
                self.model.release_pool(event.stream >> POOL_SHIFT)
        elif event.action == "alloc":
            self._allocate(event)
        elif event.action in (FREE_AT_ONCE, "free_requested"):
            self._flush()
            self._free(event, at_once=event.action == FREE_AT_ONCE)
        elif event.action == "free_completed":
            # Waiting for other streams may be a part of making room: it keeps its place.
            self._pending.append(event)
        elif event.action == "oom":
            self._flush()

    def _expect_nothing(self) -> None:
        """Forget what was expected of one request alone."""
        self.model.before_growing = None
        self._addresses.upcoming = []

    def _differ(self, sentence: str) -> None:
        if len(self._result.differences) < 10:
            self._result.differences.append(sentence)

    def _allocate(self, event: TraceEvent) -> None:
        group, self._pending = self._pending, []
        begun = len(self.model.segment_log)
        self._addresses.upcoming = [e.address for e in group if e.action in TAKING]
        gives = [e for e in group if e.action not in TAKING]
        group = [e for e in group if e.action in SEGMENT_ACTIONS]
        grows = self._addresses.upcoming and not self.model.has_fit(event.size_bytes, event.stream)
        if grows:
            self.model.before_growing = lambda: self._free_segments(gives)
        else:
            self._free_segments(gives)
        address = self.model.malloc(event.size_bytes, event.stream)
        self._expect_nothing()
        self._match(group, self.model.segment_log[begun:])
        self._where[event.address] = address
        self._result.allocations += 1
        if address == event.address:
            self._result.allocations_matched += 1
        else:
            self._differ(
                f"{event.size_bytes} bytes at {address:#x}, recorded at {event.address:#x}"
            )

    def _free(self, event: TraceEvent, *, at_once: bool) -> None:
        address = self._where.get(event.address)
        if address is None:
            self._differ(f"a release at {event.address:#x}, where nothing was allocated")
            return
        if not at_once:
            self.model.record_stream(address, SOME_STREAM)
        self.model.free(address)
        if at_once:
            del self._where[event.address]

    def _complete(self, event: TraceEvent) -> None:
        address = self._where.pop(event.address, None)
        if address is None:
            self._differ(f"a release completed at {event.address:#x}, but none was requested")
        else:
            self.model.complete(address)

    def _flush(self) -> None:
        """Apply what was freed; memory reserved without a request is a difference."""
        group, self._pending = self._pending, []
        begun = len(self.model.segment_log)
        self._free_segments([event for event in group if event.action not in TAKING])
        segment_events = [event for event in group if event.action in SEGMENT_ACTIONS]
        self._match(segment_events, self.model.segment_log[begun:])

    def _free_segments(self, gives: Sequence[TraceEvent]) -> None:
        """Free what the recording says, in its order."""
        unmaps = any(give.action == "segment_unmap" for give in gives)
        for give in gives:
            if give.action == "free_completed":
                self._complete(give)
            elif not unmaps:
                self.model.free_segment(give.address)
        if unmaps and all(is_private(give) for give in gives):
            for number in dict.fromkeys(give.stream >> POOL_SHIFT for give in gives):
                self.model.empty_pool(number)
        elif unmaps:
            self.model.empty_cache()

    def _match(self, recorded: Sequence[TraceEvent], modelled: Sequence[SegmentEvent]) -> None:
        """Compare two lists of segment events, one to one and in order."""
        for theirs, ours in zip_longest(recorded, modelled):
            if theirs is None:
                self._differ(f"the model has {_describe(ours)}, the recording nothing")
            elif ours != (theirs.action, theirs.address, theirs.size_bytes, theirs.stream):
                self._differ(f"recorded {_describe(theirs)}, the model has {_describe(ours)}")
            else:
                self._result.segment_events_matched += 1

    def agreement(self, snapshot: Snapshot) -> Agreement:
        """Return where model and recording agree; the end is compared with the segments."""
        theirs = {
            (block.address, block.size_bytes, _STATES.get(block.state, AWAITING))
            for segment in snapshot.segments
            for block in segment.blocks
        }
        ours = {
            (block.address, block.size, block.state)
            for block in self.model.blocks()
            if block.state != UNMAPPED
        }
        for address, size, _ in sorted(theirs - ours)[:3]:
            self._differ(f"at the end a block of {size} bytes at {address:#x} differs")
        result = self._result
        result.peak_reserved_bytes = self.model.peak("reserved_bytes")
        result.blocks = len(theirs)
        result.blocks_matched = len(theirs & ours)
        return result


_STATES = {"active_allocated": ALLOCATED, "inactive": FREE}


def _describe(event: TraceEvent | SegmentEvent | None) -> str:
    if event is None:
        return "nothing"
    return f"{event.action} of {event.size_bytes} bytes at {event.address:#x}"


def agreement_of(path: Path, recorded_on_bytes: int | None = None) -> Agreement:
    """Return where the model and the recording at ``path`` agree, for its first device.

    The recording begins with its program. ``recorded_on_bytes`` is the memory of the GPU that made
    it, which decides how far an expandable segment can grow.
    """
    history = next(device_histories(read_recording(path)))
    assert not history.origin.live
    assert not history.origin.reserved_bytes
    follower = Follower(replace(history.config, total_bytes=recorded_on_bytes))
    follower.run(history.events)
    return follower.agreement(history.snapshot)

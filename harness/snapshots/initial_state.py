"""State and settings at the start of a recording: the trace run backwards from its end.

A snapshot holds the segments at its end. What was allocated before and never freed is still there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.allocator import AllocatorConfig, AllocatorConfigError
from harness.allocator.config import UNLIMITED
from harness.snapshots.snapshot import Snapshot
from harness.snapshots.trace_event import BEFORE, RecordedSegment, TraceEvent, reserved_change


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The beginning of a recording; ``live`` has the allocations of its blocks, by address."""

    live: Mapping[int, TraceEvent]
    reserved_bytes: int


def find_origin(snapshot: Snapshot, events: Sequence[TraceEvent]) -> Origin:
    """Return how things stood before ``events``, which end where the segments were recorded."""
    reserved = sum(segment.size_bytes for segment in snapshot.segments)
    reserved -= sum(map(reserved_change, events))
    return Origin(live=_live_at_start(snapshot.segments, events), reserved_bytes=reserved)


def _live_at_start(
    segments: Sequence[RecordedSegment], events: Sequence[TraceEvent]
) -> dict[int, TraceEvent]:
    live = {
        block.address: TraceEvent(
            "alloc", block.address, block.requested_bytes, segment.stream, None, None
        )
        for segment in segments
        for block in segment.blocks
        if block.state == "active_allocated"
    }
    for event in reversed(events):
        if event.action == "alloc":
            live.pop(event.address, None)
        elif event.action == "free_requested":
            live[event.address] = event
    return {
        address: event._replace(action="alloc", time_us=None, stack=BEFORE)
        for address, event in live.items()
    }


def recorded_config(snapshot: Snapshot) -> tuple[AllocatorConfig, list[str]]:
    """Return the settings of a recording, and what had to be assumed."""
    notes = []
    if not snapshot.flags:
        notes.append("the recording holds no settings (before PyTorch 2.3): defaults are assumed")
    try:
        config = AllocatorConfig.from_settings(snapshot.settings, total_bytes=1)
    except AllocatorConfigError as error:
        notes.append(f"{error}; it is ignored")
        config = AllocatorConfig()
    # How large the GPU was, and so what a fraction of it is, is in no recording.
    fields: dict[str, Any] = {"total_bytes": None, "memory_fraction": 1.0}
    # The allocator itself reported these, which later calls may have set.
    flags = snapshot.flags
    expandable, limit = flags.get("expandable_segments"), flags.get("max_split_size")
    if isinstance(expandable, bool):
        fields["expandable_segments"] = expandable
    if isinstance(limit, int):
        fields["max_split_size_bytes"] = limit if limit > 0 else UNLIMITED
    divisions = flags.get("roundup_power2_divisions")
    if isinstance(divisions, dict) and len(divisions) == 16:
        table = tuple(divisions.values())
        if all(isinstance(entry, int) for entry in table):
            fields["roundup_power2_divisions"] = table
    try:
        return replace(config, **fields), notes
    except AllocatorConfigError as error:
        notes.append(f"{error}; it is ignored")
        return AllocatorConfig(), notes

"""Finds the state at the start of a recording by reading the recording backwards.

Blocks that were allocated before the recording and never freed are found in the segments at the end
of the snapshot.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.snapshots.snapshot import Snapshot
from harness.snapshots.trace_event import BEFORE, RecordedSegment, TraceEvent, reserved_change


@dataclass(frozen=True, kw_only=True)
class Origin:
    """State at the start of a recording; ``live`` maps addresses to allocations of live blocks."""

    live: Mapping[int, TraceEvent]
    reserved_bytes: int


def find_origin(snapshot: Snapshot, events: Sequence[TraceEvent]) -> Origin:
    """Return the state before ``events``; the snapshot was taken right after the last event."""
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


def notes_on_origin(origin: Origin) -> Iterator[str]:
    """Yield a note if blocks or segments are older than the recording."""
    if origin.reserved_bytes or origin.live:
        yield (
            f"the recording begins in the middle: {len(origin.live)} blocks and "
            f"{origin.reserved_bytes} reserved bytes were there before"
        )


_MIB = 1 << 20
_OF_THE_MACHINE = ("backend", "per_process_memory_fraction")
"""Settings that are ignored: the backend, and a fraction of the GPU's size, which is unknown."""


def recorded_settings(snapshot: Snapshot) -> tuple[str, list[str]]:
    """Return the recorded settings of the allocator, and notes on assumptions about the settings.

    Flags that the allocator reported override the settings of the environment variable.
    """
    notes = []
    if not snapshot.flags:
        notes.append("the recording holds no settings (before PyTorch 2.3): defaults are assumed")
    texts = dict(re.findall(r"(\w+)\s*:\s*(\[[^]]*\]|[^,]*)", snapshot.settings))
    known = {name: text for name, text in texts.items() if name not in _OF_THE_MACHINE}
    settings = known | _settings_of_flags(snapshot.flags)
    return ",".join(f"{name}:{value}" for name, value in settings.items() if value), notes


def _settings_of_flags(flags: Mapping[str, object]) -> dict[str, str]:
    """Return the flags as settings; an empty string means the default value."""
    found = {}
    expandable, limit = flags.get("expandable_segments"), flags.get("max_split_size")
    if isinstance(expandable, bool):
        found["expandable_segments"] = "True" if expandable else ""
    if isinstance(limit, int):
        found["max_split_size_mb"] = str(limit // _MIB) if limit > 0 else ""
    divisions = flags.get("roundup_power2_divisions")
    if isinstance(divisions, dict) and all(isinstance(each, int) for each in divisions.values()):
        table = ",".join(f"{size}:{each or 1}" for size, each in divisions.items())
        found["roundup_power2_divisions"] = f"[{table}]" if any(divisions.values()) else ""
    return found

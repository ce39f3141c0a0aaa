"""Blocks alive when a recording held most."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harness.snapshots.initial_state import Origin
from harness.snapshots.trace_event import TraceEvent

BEFORE = "before the recording"
UNKNOWN = "place not recorded"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Blocks of one place and one size that were alive together."""

    place: str
    size_bytes: int
    count: int

    def total_bytes(self) -> int:
        """Return the bytes of all of them."""
        return self.size_bytes * self.count


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The moment at which most bytes were requested, by its event; -1 is before the first one.

    ``groups`` are sorted by their bytes, largest first, and sum to ``requested_bytes``.
    """

    position: int
    events: int
    seconds: float | None
    requested_bytes: int
    groups: tuple[Group, ...]


def find_peak(events: Sequence[TraceEvent], origin: Origin) -> Peak:
    """Return the first moment at which most bytes were asked for and not yet freed."""
    alive = dict.fromkeys(origin.live, 0)
    alive.update(origin.live)
    now = highest = sum(alive.values())
    position = -1
    for index, event in enumerate(events):
        if event.action == "alloc":
            alive[event.address] = event.size_bytes
            now += event.size_bytes
            if now > highest:
                highest, position = now, index
        elif event.action == "free_requested":
            now -= alive.pop(event.address, 0)
    groups = _groups(events[: position + 1], origin)
    return Peak(
        position=position,
        events=len(events),
        seconds=_seconds(events, position),
        requested_bytes=highest,
        groups=groups,
    )


def _groups(events: Sequence[TraceEvent], origin: Origin) -> tuple[Group, ...]:
    alive = {address: (BEFORE, size) for address, size in origin.live.items()}
    for event in events:
        if event.action == "alloc":
            alive[event.address] = (event.place or UNKNOWN, event.size_bytes)
        elif event.action == "free_requested":
            alive.pop(event.address, None)
    counts: dict[tuple[str, int], int] = defaultdict(int)
    for key in alive.values():
        counts[key] += 1
    groups = [
        Group(place=place, size_bytes=size, count=count) for (place, size), count in counts.items()
    ]
    return tuple(sorted(groups, key=lambda g: (-g.total_bytes(), -g.size_bytes, g.place)))


def _seconds(events: Sequence[TraceEvent], position: int) -> float | None:
    if position < 0:
        return 0.0 if events and events[0].time_us is not None else None
    begin, end = events[0].time_us, events[position].time_us
    return None if begin is None or end is None else (end - begin) / 1e6

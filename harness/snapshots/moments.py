"""Blocks alive at one moment of a recording, grouped; and over all of it, as a timeline."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.snapshots.categories import CATEGORIES, Categories, module_of, own_line
from harness.snapshots.initial_state import Origin
from harness.snapshots.trace_event import Stack, TraceEvent, reserved_change

FRAMES_SHOWN = 8
_BEFORE = "before the recording"
_UNKNOWN = "place not recorded"
_TIMELINE_POINTS = 400
_MOST_GROUPS = 12


@dataclass(frozen=True)
class LargeBlock:
    """One of the largest blocks alive, with the frames that asked for it."""

    size_bytes: int
    category: str
    frames: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BlockGroup:
    """All blocks alive of one category that the same lines of the user and a library requested."""

    count: int
    size_bytes: int
    same_size: bool
    category: str
    line: str
    place: str | None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Blocks alive after the event at ``position``, grouped in three ways; bytes requested."""

    name: str
    position: int
    alive_bytes: int
    reserved_bytes: int
    categories: tuple[tuple[str, int], ...]
    modules: tuple[tuple[str, int], ...]
    frames: tuple[tuple[str, int], ...]
    largest: tuple[LargeBlock, ...]
    groups: tuple[BlockGroup, ...]


def alive_after(events: Sequence[TraceEvent], origin: Origin) -> list[int]:
    """Return the bytes alive after each event."""
    sizes = dict(origin.live)
    now, after = sum(sizes.values()), []
    for event in events:
        if event.action == "alloc":
            sizes[event.address] = event.size_bytes
            now += event.size_bytes
        elif event.action == "free_requested":
            now -= sizes.pop(event.address, 0)
        after.append(now)
    return after


def reserved_after(events: Sequence[TraceEvent], origin: Origin, position: int) -> int:
    """Return what was reserved after the event at ``position``."""
    return origin.reserved_bytes + sum(map(reserved_change, events[: position + 1]))


def blocks_after(
    events: Sequence[TraceEvent], live_before: Mapping[int, int]
) -> dict[int, TraceEvent]:
    """Return the allocation of each block alive after the last event, by address."""
    blocks = {
        address: TraceEvent("alloc", address, size, 0, None, None, Stack(_BEFORE, (), _BEFORE))
        for address, size in live_before.items()
    }
    for event in events:
        if event.action == "alloc":
            blocks[event.address] = event
        elif event.action == "free_requested":
            blocks.pop(event.address, None)
    return blocks


def moment_at(
    name: str,
    position: int,
    events: Sequence[TraceEvent],
    origin: Origin,
    alive: Sequence[int],
    kinds: Categories,
) -> Moment:
    """Return what was alive after the event at ``position``."""
    blocks = blocks_after(events[: position + 1], origin.live)
    categories: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    alike: defaultdict[tuple[str, str, str | None], list[int]] = defaultdict(list)
    named: list[tuple[TraceEvent, str]] = []
    for event in blocks.values():
        before = event.stack.place == _BEFORE
        category = _BEFORE if before else CATEGORIES[kinds.of(event)]
        named.append((event, category))
        categories[category] += event.size_bytes
        alike[category, own_line(event.stack), event.stack.place].append(event.size_bytes)
        modules[_BEFORE if before else module_of(event)] += event.size_bytes
        frames[own_line(event.stack)] += event.size_bytes
    named.sort(key=lambda each: (-each[0].size_bytes, each[0].address))
    groups = [
        BlockGroup(
            count=len(sizes),
            size_bytes=sum(sizes),
            same_size=min(sizes) == max(sizes),
            category=category,
            line=line,
            place=place,
        )
        for (category, line, place), sizes in alike.items()
    ]
    return Moment(
        name=name,
        position=position,
        alive_bytes=alive[position] if position >= 0 else sum(origin.live.values()),
        reserved_bytes=reserved_after(events, origin, position),
        categories=tuple(categories.most_common()),
        modules=tuple(modules.most_common(12)),
        frames=tuple(frames.most_common(12)),
        largest=tuple(
            LargeBlock(event.size_bytes, category, event.stack.frames[:FRAMES_SHOWN])
            for event, category in named[:10]
        ),
        groups=tuple(sorted(groups, key=lambda group: -group.size_bytes)[:_MOST_GROUPS]),
    )


def timeline(
    events: Sequence[TraceEvent], origin: Origin, kinds: Categories
) -> tuple[tuple[int, dict[str, int]], ...]:
    """Return bytes by category at up to 400 positions; each is the highest of its interval."""
    interval = max(1, -(-len(events) // _TIMELINE_POINTS))
    now: Counter[str] = Counter()
    if origin.live:
        now[_BEFORE] = sum(origin.live.values())
    where = {address: (_BEFORE, size) for address, size in origin.live.items()}
    points: list[tuple[int, dict[str, int]]] = []
    best, best_total, total = dict(now), -1, sum(now.values())
    for position, event in enumerate(events):
        if event.action == "alloc":
            category = CATEGORIES[kinds.of(event)]
            where[event.address] = (category, event.size_bytes)
            now[category] += event.size_bytes
            total += event.size_bytes
        elif event.action == "free_requested" and event.address in where:
            category, size = where.pop(event.address)
            now[category] -= size
            total -= size
        if total > best_total:
            best, best_total = dict(now), total
        if position % interval == interval - 1 or position == len(events) - 1:
            points.append((position, best))
            best, best_total = dict(now), -1
    return tuple(points)


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
    """The moment at which most bytes were requested, by its event; -1 is before the first one."""

    position: int
    events: int
    seconds: float | None
    requested_bytes: int
    groups: tuple[Group, ...]


def find_peak(events: Sequence[TraceEvent], origin: Origin) -> Peak:
    """Return the first moment at which most bytes were asked for and not yet freed."""
    before, after = sum(origin.live.values()), alive_after(events, origin)
    highest = max((before, *after))
    position = after.index(highest) if highest > before else -1
    counts = Counter(
        (event.stack.place or _UNKNOWN, event.size_bytes)
        for event in blocks_after(events[: position + 1], origin.live).values()
    )
    groups = [
        Group(place=place, size_bytes=size, count=count) for (place, size), count in counts.items()
    ]
    return Peak(
        position=position,
        events=len(events),
        seconds=seconds_at(events, position),
        requested_bytes=highest,
        groups=tuple(sorted(groups, key=lambda g: (-g.total_bytes(), -g.size_bytes, g.place))),
    )


def seconds_at(events: Sequence[TraceEvent], position: int) -> float | None:
    """Return the seconds from the first event to another one; -1 is before the first."""
    if not events:
        return None
    begin, end = events[0].time_us, events[max(position, 0)].time_us
    return None if begin is None or end is None else (end - begin) / 1e6

"""Groups the live blocks at one moment of a recording, and computes the timeline."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.schema.block_categories import CATEGORY_WORDS
from harness.snapshots.categories import CategoryOf, module_of
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.trace_event import TraceEvent, own_line

FRAMES_SHOWN = 8
_TIMELINE_POINTS = 400
_MOST_GROUPS = 12


@dataclass(frozen=True)
class LargeBlock:
    """One of the largest live blocks, with the Python frames of its allocation."""

    size_bytes: int
    category: str
    frames: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BlockGroup:
    """Live blocks that have the same category and were allocated by the same source lines."""

    count: int
    size_bytes: int
    same_size: bool
    category: str
    line: str
    place: str | None


@dataclass(frozen=True, kw_only=True)
class RecordedMoment:
    """Requested bytes of the blocks alive after an event, by category, module and source line."""

    name: str
    position: int
    alive_bytes: int
    reserved_bytes: int
    categories: tuple[tuple[str, int], ...]
    modules: tuple[tuple[str, int], ...]
    frames: tuple[tuple[str, int], ...]
    largest: tuple[LargeBlock, ...]
    groups: tuple[BlockGroup, ...]


def totals(sizes: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Return the sum of bytes for each name, with the largest sum first."""
    sums: Counter[str] = Counter()
    for name, size in sizes:
        sums[name] += size
    return tuple(sums.most_common())


def moment_at(
    name: str, position: int, history: DeviceHistory, category_at: CategoryOf
) -> RecordedMoment:
    """Group the blocks alive after the event at ``position`` by category, module and line."""
    alive = [
        (history.log[begin], CATEGORY_WORDS[category_at(begin)])
        for begin in history.alive_after(position)
    ]
    alike: defaultdict[tuple[str, str, str | None], list[int]] = defaultdict(list)
    for event, words in alive:
        alike[words, own_line(event), event.stack.place].append(event.size_bytes)
    largest = sorted(alive, key=lambda block: (-block[0].size_bytes, block[0].address))
    groups = sorted(alike.items(), key=lambda group: -sum(group[1]))
    return RecordedMoment(
        name=name,
        position=position,
        alive_bytes=history.alive_bytes[position + 1],
        reserved_bytes=history.reserved_bytes[position + 1],
        categories=totals((words, event.size_bytes) for event, words in alive),
        modules=totals((module_of(event), event.size_bytes) for event, _ in alive)[:_MOST_GROUPS],
        frames=totals((own_line(event), event.size_bytes) for event, _ in alive)[:_MOST_GROUPS],
        largest=tuple(
            LargeBlock(event.size_bytes, words, event.stack.frames[:FRAMES_SHOWN])
            for event, words in largest[:10]
        ),
        groups=tuple(
            BlockGroup(
                count=len(sizes),
                size_bytes=sum(sizes),
                same_size=min(sizes) == max(sizes),
                category=category,
                line=line,
                place=place,
            )
            for (category, line, place), sizes in groups[:_MOST_GROUPS]
        ),
    )


def timeline(
    history: DeviceHistory, category_at: CategoryOf
) -> tuple[tuple[int, dict[str, int]], ...]:
    """Divide the events into up to 400 intervals; return each interval's peak by category."""
    count = len(history.events)
    length = max(1, -(-count // _TIMELINE_POINTS))
    intervals = [range(begin, min(begin + length, count)) for begin in range(0, count, length)]
    after = history.alive_bytes[1:]
    highest = [max(interval, key=after.__getitem__) for interval in intervals]
    points: list[dict[str, int]] = [{} for _ in intervals]
    alike: defaultdict[str, dict[int, int | None]] = defaultdict(dict)
    for begin, end in history.lifetimes.items():
        alike[CATEGORY_WORDS[category_at(begin)]][begin] = end
    for category, lifetimes in alike.items():
        alive = history.bytes_alive(lifetimes)
        first = min(lifetimes) - len(history.origin.live)
        for position, sizes in zip(highest, points, strict=True):
            if first <= position:
                sizes[category] = alive[position + 1]
    return tuple((interval[-1], sizes) for interval, sizes in zip(intervals, points, strict=True))


def seconds_at(events: Sequence[TraceEvent], position: int) -> float | None:
    """Return the seconds from the first event to the event at ``position``; None if unknown."""
    if not events:
        return None
    begin, end = events[0].time_us, events[max(position, 0)].time_us
    return None if begin is None or end is None else (end - begin) / 1e6

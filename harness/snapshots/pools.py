"""Numbers the private pools of a recording, which ``MemPool`` and CUDA graphs create.

The bits of ``stream`` above the lowest 64 store the pool's number; 0 is the default pool.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.trace_event import DEFAULT_POOL, PoolId, RecordedSegment, TraceEvent

_MOST_POOLS = 4096
POOL_SHIFT = 64
STREAM_MASK = (1 << POOL_SHIFT) - 1


def number_pools(
    events: tuple[TraceEvent, ...], segments: tuple[RecordedSegment, ...]
) -> tuple[TraceEvent, ...]:
    """Store the pool's number in the ``stream`` of each event; return the changed events."""
    some = any(segment.pool != DEFAULT_POOL for segment in segments)
    if not some and not any(event.pool not in (None, DEFAULT_POOL) for event in events):
        return events
    pools = list(_pools_of_events(events, segments))
    numbers: dict[PoolId, int] = {DEFAULT_POOL: 0}
    for pool in (*pools, *(segment.pool for segment in segments)):
        numbers.setdefault(pool, len(numbers))
    if len(numbers) > _MOST_POOLS:
        raise SnapshotError(f"the recording has more than {_MOST_POOLS:,} private pools")
    for segment in segments:
        segment.stream |= numbers[segment.pool] << POOL_SHIFT
    numbered = (
        event
        if pool == DEFAULT_POOL
        else event._replace(stream=event.stream | numbers[pool] << POOL_SHIFT)
        for event, pool in zip(events, pools, strict=True)
    )
    return tuple(numbered)


def _pools_of_events(
    events: Sequence[TraceEvent], segments: Sequence[RecordedSegment]
) -> Sequence[PoolId]:
    """Return the pool of each event; if the pool is not recorded, derive it from the segments.

    Older recordings name pools only for the segments at the end of the recording. An event without
    a pool gets the pool of the segment that contains the event's address. Events before the
    allocation of their segment, and events in segments that were freed before the end, are counted
    as part of the default pool.
    """
    ends = {each.address: each for each in segments if each.pool != DEFAULT_POOL}
    starts = sorted(ends)
    pools: list[PoolId] = []
    for event in reversed(events):
        pool = event.pool
        if pool is None:
            pool = DEFAULT_POOL
            index = bisect_right(starts, event.address) - 1
            segment = ends.get(starts[index]) if index >= 0 and event.action != "oom" else None
            if segment is not None and event.address < segment.address + segment.size_bytes:
                pool = segment.pool
        if event.action == "segment_alloc":
            ends.pop(event.address, None)
        pools.append(pool)
    pools.reverse()
    return pools


def is_private(entry: TraceEvent | RecordedSegment) -> bool:
    """Return whether an event or segment is in a private pool; call ``number_pools`` first."""
    return entry.stream >> POOL_SHIFT != 0


def notes_on_pools(
    events: Sequence[TraceEvent], segments: Sequence[RecordedSegment]
) -> Iterator[str]:
    """Yield notes on the private pools, if the recording has any private pool."""
    private = [segment for segment in segments if is_private(segment)]
    count = sum(map(is_private, events))
    if not count and not private:
        return
    held = sum(segment.size_bytes for segment in private)
    free = sum(
        block.size_bytes for each in private for block in each.blocks if block.state == "inactive"
    )
    yield (
        f"{count} events of private pools (CUDA graphs, MemPool), which hold {format_bytes(held)} "
        f"at the end; {format_bytes(free)} of it is free, and no other pool can use that"
    )
    if all(event.pool is None for event in events):
        yield (
            "this version of PyTorch does not record the pool of an event: what private pools "
            "freed before the end counts as memory of the default pool"
        )

"""Turns the events of a trace into the operations of the program.

The allocator logs a free twice: when it is requested and when it is completed. The two events of a
free are neighbours unless another stream still uses the block. The allocator also logs freed
segments, but it does not log the reason: ``empty_cache()`` or a request that needed memory.
"""

from collections.abc import Iterator, Sequence

from harness.snapshots.pools import is_private
from harness.snapshots.trace_event import GIVING, SEGMENT_ACTIONS, TAKING, TraceEvent

FREE_AT_ONCE = "free"
EMPTY_CACHE = "empty_cache"
RELEASE_POOL = "release_pool"


def operations(events: Sequence[TraceEvent]) -> Iterator[tuple[int, TraceEvent]]:
    """Yield each event with its position; two neighbouring events of the same free become one."""
    skip = False
    last = len(events) - 1
    for index, event in enumerate(events):
        if skip:
            skip = False
            continue
        if event.action == "free_requested":
            following = events[index + 1] if index < last else None
            skip = (
                following is not None
                and following.action == "free_completed"
                and following.address == event.address
            )
            if skip:
                event = event._replace(action=FREE_AT_ONCE)
        yield index, event


def workload(events: Sequence[TraceEvent]) -> Iterator[tuple[int, TraceEvent]]:
    """Yield the program's operations, without the allocator's own operations.

    Allocations and frees are operations of the program. ``empty_cache`` is added if segments were
    freed without a request that needed memory. ``release_pool`` is added if segments of a private
    pool were freed. Each operation is yielded with its position in ``events``.
    """
    given: TraceEvent | None = None
    took = False
    for position, event in operations(events):
        if event.action in SEGMENT_ACTIONS:
            if event.action in GIVING:
                if is_private(event) and (given is None or given.stream != event.stream):
                    yield position, event._replace(action=RELEASE_POOL)
                given = event
            took = took or event.action in TAKING
        else:
            made_room = event.action == "oom" or (event.action == "alloc" and took)
            if given is not None and not made_room:
                yield position, given._replace(action=EMPTY_CACHE)
            given, took = None, False
            if event.action not in ("oom", "snapshot"):
                yield position, event
    if given is not None:
        yield len(events) - 1, given._replace(action=EMPTY_CACHE)

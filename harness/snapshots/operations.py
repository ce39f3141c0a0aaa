"""Turns a trace's events into the program's operations; a complete release is one operation.

The allocator logs a release twice, when it is requested and when it is complete. Both come together
unless another stream still used the block. The allocator also logs freed segments, but it does not
log if the program emptied the cache or if a request needed room.
"""

from collections.abc import Iterator, Sequence

from harness.snapshots.pools import is_private
from harness.snapshots.trace_event import GIVING, SEGMENT_ACTIONS, TAKING, TraceEvent

FREE_AT_ONCE = "free"
EMPTY_CACHE = "empty_cache"
RELEASE_POOL = "release_pool"


def operations(events: Sequence[TraceEvent]) -> Iterator[tuple[int, TraceEvent]]:
    """Yield the events with their positions; two events of a complete release become ``free``."""
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

    The operations are requests and releases, ``empty_cache`` if segments were freed without a
    request that needed room, and ``release_pool`` if segments of a private pool were freed, since
    the program must have dropped it. Each operation has its position among ``events``.
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

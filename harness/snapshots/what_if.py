"""The same requests and releases under other settings, or on another GPU."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    CachingAllocator,
    OutOfMemoryError,
    policies_to_try,
)
from harness.allocator.blocks import POOL_SHIFT
from harness.schema.memory_fit import Fit, fit_of
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.file_bytes import EVENTS_BETWEEN_CHECKS, Deadline, SnapshotError
from harness.snapshots.moments import seconds_at
from harness.snapshots.operations import (
    EMPTY_CACHE,
    FREE_AT_ONCE,
    RELEASE_POOL,
    SOME_STREAM,
    workload,
)
from harness.snapshots.pools import STREAM_MASK
from harness.snapshots.trace_event import TraceEvent


@dataclass(frozen=True, kw_only=True)
class RanOut:
    """The request that could not be served; ``position`` counts events from 0."""

    position: int
    seconds: float | None
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    place: str | None


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """The need of a run under other settings, as a range over the ways of placing segments.

    ``peak_reserved_bytes`` is None if no run completed; ``ran_out`` has the others, earliest first.
    """

    name: str
    config: AllocatorConfig
    runs: int
    peak_reserved_bytes: tuple[int, int] | None
    peak_allocated_bytes: int | None
    most_retries: int
    ran_out: tuple[RanOut, ...]
    verdict: Fit


ALLOC = "alloc"
_ACTIONS = frozenset(
    {ALLOC, FREE_AT_ONCE, "free_requested", "free_completed", EMPTY_CACHE, RELEASE_POOL}
)

Step = tuple[str, int, int, int, int]
"""(action, address as recorded, bytes, stream, position among the events)."""


@dataclass(frozen=True, kw_only=True)
class RecordedWork:
    """A recorded program: requests and releases in order.

    It begins with requests for the blocks that were there before, at position -1.
    """

    events: Sequence[TraceEvent]
    steps: tuple[Step, ...]


def find_work(history: DeviceHistory, until: int | None = None) -> RecordedWork:
    """Return the requests and releases of the first ``until`` events, without those that failed."""
    before = ((-1, history.origin.live[address]) for address in sorted(history.origin.live))
    steps = (
        (event.action, event.address, event.size_bytes, event.stream, position)
        for position, event in chain(before, workload(history.events[:until]))
        if event.action in _ACTIONS
    )
    return RecordedWork(events=history.events, steps=tuple(steps))


def in_one_pool(work: RecordedWork) -> RecordedWork | None:
    """Return the work without its private pools; None where it has none."""
    if not any(step[3] >> POOL_SHIFT for step in work.steps):
        return None
    return replace(
        work,
        steps=tuple(
            (*step[:3], step[3] & STREAM_MASK, step[4])
            for step in work.steps
            if step[0] != RELEASE_POOL
        ),
    )


def what_if(
    name: str, config: AllocatorConfig, work: RecordedWork, deadline: Deadline | None = None
) -> WhatIf:
    """Return what the recorded requests and frees would need under ``config``."""
    runs = [_run(config, policy(), work, deadline) for policy in policies_to_try(config)]
    complete = [model for model, ran_out in runs if ran_out is None]
    peaks = [model.peak("reserved_bytes") for model in complete]
    allocated = [model.peak("allocated_bytes") for model in complete]
    failures = [ran_out for _, ran_out in runs if ran_out is not None]
    return WhatIf(
        name=name,
        config=config,
        runs=len(runs),
        peak_reserved_bytes=(min(peaks), max(peaks)) if peaks else None,
        peak_allocated_bytes=max(allocated) if allocated else None,
        most_retries=max(model.stats()["num_alloc_retries"] for model, _ in runs),
        ran_out=tuple(sorted(failures, key=lambda failure: failure.position)),
        verdict=fit_of(in_every_case=not failures, in_some_case=len(failures) < len(runs)),
    )


def _run(
    config: AllocatorConfig, policy: AddressPolicy, work: RecordedWork, deadline: Deadline | None
) -> tuple[CachingAllocator, RanOut | None]:
    model = CachingAllocator(config, addresses=policy, completion="at_release")
    where: dict[int, int] = {}
    malloc, free, pop = model.malloc, model.free, where.pop
    position = -1
    try:
        for index, step in enumerate(work.steps):
            action, address, size, stream, position = step
            if index % EVENTS_BETWEEN_CHECKS == 0 and deadline is not None:
                deadline.check("replaying the recording")
            if action == ALLOC:
                where[address] = malloc(size, stream)
            elif action == EMPTY_CACHE:
                model.empty_cache()
            elif action == RELEASE_POOL:
                model.release_pool(stream >> POOL_SHIFT)
                model.empty_pool(stream >> POOL_SHIFT)
            else:
                # A recording may contradict itself, and running out of
                # memory or emptying the cache may have completed a release before its time.
                try:
                    if action == FREE_AT_ONCE:
                        free(pop(address, 0))
                    elif action == "free_completed":
                        model.complete(pop(address, 0))
                    else:
                        model.record_stream(where.get(address, 0), SOME_STREAM)
                        free(where.get(address, 0))
                except ValueError:
                    continue
    except OutOfMemoryError as error:
        event = work.events[position] if position >= 0 else None
        return model, RanOut(
            position=position,
            seconds=seconds_at(work.events, position),
            requested_bytes=error.requested_bytes,
            allocated_bytes=error.allocated_bytes,
            reserved_bytes=error.reserved_bytes,
            place=None if event is None else event.stack.place,
        )
    except ValueError:
        # Sizes are bounded when a snapshot is read: only endless streams lead here.
        raise SnapshotError("the recording uses more streams than there are addresses") from None
    return model, None

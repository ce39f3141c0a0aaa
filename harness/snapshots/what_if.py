"""The same requests and releases under other settings, or on another GPU."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    CachingAllocator,
    OutOfMemoryError,
    policies_to_try,
)
from harness.allocator.blocks import POOL_SHIFT
from harness.schema.memory_fit import Fit, fit_of
from harness.snapshots.file_bytes import EVENTS_BETWEEN_CHECKS, Deadline, SnapshotError
from harness.snapshots.initial_state import Origin
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

    def verdict(self) -> Fit:
        """Return fits, does not fit, or close call."""
        failed = len(self.ran_out)
        return fit_of(in_every_case=not failed, in_some_case=failed < self.runs)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        return {**asdict(self), "verdict": self.verdict()}


ALLOC = "alloc"
_ACTIONS = frozenset(
    {ALLOC, FREE_AT_ONCE, "free_requested", "free_completed", EMPTY_CACHE, RELEASE_POOL}
)

Step = tuple[str, int, int, int, int]
"""(action, address as recorded, bytes, stream, position among the events)."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A recorded program: requests and releases in order, and the blocks alive before."""

    events: Sequence[TraceEvent]
    alive: tuple[tuple[int, int, int], ...]
    steps: tuple[Step, ...]


def find_workload(events: Sequence[TraceEvent], origin: Origin) -> Workload:
    """Return the recorded requests and releases; those that failed are left out."""
    alive = ((address, origin.live[address], origin.streams[address]) for address in origin.live)
    steps = (
        (event.action, event.address, event.size_bytes, event.stream, position)
        for position, event in workload(events)
        if event.action in _ACTIONS
    )
    return Workload(events=events, alive=tuple(sorted(alive)), steps=tuple(steps))


def in_one_pool(work: Workload) -> Workload | None:
    """Return the work without its private pools; None where it has none."""
    streams = [stream for _, _, stream in work.alive] + [step[3] for step in work.steps]
    if not any(stream >> POOL_SHIFT for stream in streams):
        return None
    return replace(
        work,
        alive=tuple((address, size, stream & STREAM_MASK) for address, size, stream in work.alive),
        steps=tuple(
            (*step[:3], step[3] & STREAM_MASK, step[4])
            for step in work.steps
            if step[0] != RELEASE_POOL
        ),
    )


def what_if(
    name: str, config: AllocatorConfig, work: Workload, deadline: Deadline | None = None
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
    )


def _run(
    config: AllocatorConfig, policy: AddressPolicy, work: Workload, deadline: Deadline | None
) -> tuple[CachingAllocator, RanOut | None]:
    model = CachingAllocator(config, addresses=policy, completion="at_release")
    where: dict[int, int] = {}
    malloc, free, pop = model.malloc, model.free, where.pop
    position = -1
    try:
        for address, size, stream in work.alive:
            where[address] = malloc(size, stream)
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
                # A recording may contradict itself (the agreement says so), and running out of
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


def scaled_workload(
    first: Workload, second: Workload, batches: tuple[int, int], batch: int
) -> Workload:
    """Return the work of ``first`` at batch ``batch``; raise ValueError where it is unknown.

    A block's bytes are taken as a constant plus a multiple of the batch, which two recordings
    determine. Both must have the same requests and releases in the same order; a recording that
    ended early is compared as far as it goes.
    """
    a, b = batches
    if a == b:
        raise ValueError("both recordings have the same batch size")
    if len(first.alive) != len(second.alive):
        raise ValueError("the recordings begin at different moments of the program")

    def scaled(size: int, other: int) -> int:
        return size + (other - size) * (batch - a) // (b - a)

    pairs = list(zip(first.steps, second.steps, strict=False))
    for index, (mine, theirs) in enumerate(pairs):
        if mine[0] != theirs[0]:
            raise ValueError(f"the two recordings do different things from step {index} on")
    steps = []
    for index, ((action, address, size, stream, position), theirs) in enumerate(pairs):
        size = scaled(size, theirs[2]) if action == ALLOC else 0
        if size < 0:
            raise ValueError(f"the size of request {index} would be negative")
        steps.append((action, address, size, stream, position))
    alive = [
        (address, max(1, scaled(size, other)), stream)
        for (address, size, stream), (_, other, _) in zip(first.alive, second.alive, strict=True)
    ]
    return replace(first, steps=tuple(steps), alive=tuple(alive))

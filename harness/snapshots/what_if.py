"""The same requests and releases under other settings, or on a smaller card."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    CachingAllocator,
    OutOfMemoryError,
    policies_to_try,
)
from harness.snapshots.initial_state import Origin
from harness.snapshots.operations import EMPTY_CACHE, FREE_AT_ONCE, workload
from harness.snapshots.snapshot import TraceEvent
from harness.snapshots.unpickler import SnapshotError

_SOME_STREAM = -1


@dataclass(frozen=True, kw_only=True)
class RanOut:
    """The request that could not be served; ``position`` counts events from 0.

    Position -1: what was alive when the recording began did not fit.
    """

    position: int
    seconds: float | None
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    place: str | None


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """Metrics over the ways of placing segments (one way where addresses do not matter).

    Attributes:
        peak_reserved_bytes: lowest and highest peak among the runs that completed; None
            where none did.
        ran_out: of each run that did not complete, where; the earliest first.

    """

    name: str
    config: AllocatorConfig
    runs: int
    peak_reserved_bytes: tuple[int, int] | None
    peak_allocated_bytes: int | None
    most_retries: int
    ran_out: tuple[RanOut, ...]

    def verdict(self) -> str:
        """Return fits, does not fit, or close call."""
        if not self.ran_out:
            return "fits"
        return "does not fit" if len(self.ran_out) == self.runs else "close call"


def what_if(
    name: str, config: AllocatorConfig, events: Sequence[TraceEvent], origin: Origin
) -> WhatIf:
    """Return what the recorded requests and releases would take under ``config``.

    Blocks that were alive at the beginning are requested first, in the order of their
    addresses. Requests that failed in the recording are left out.
    """
    steps = list(workload(events))
    runs = [_run(config, policy(), steps, events, origin) for policy in policies_to_try(config)]
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
    config: AllocatorConfig,
    policy: AddressPolicy,
    steps: Sequence[tuple[int, TraceEvent]],
    events: Sequence[TraceEvent],
    origin: Origin,
) -> tuple[CachingAllocator, RanOut | None]:
    model = CachingAllocator(config, addresses=policy, completion="at_release")
    where: dict[int, int] = {}
    position = -1
    event: TraceEvent | None = None
    try:
        for address in sorted(origin.live):
            where[address] = model.malloc(origin.live[address], origin.streams[address])
        for position, event in steps:  # noqa: B007 -- where it stopped is told below
            _step(model, where, event)
    except OutOfMemoryError as error:
        begin = events[0].time_us if events else None
        now = event.time_us if event is not None else begin
        return model, RanOut(
            position=position,
            seconds=None if begin is None or now is None else (now - begin) / 1e6,
            requested_bytes=error.requested_bytes,
            allocated_bytes=error.allocated_bytes,
            reserved_bytes=error.reserved_bytes,
            place=None if event is None else event.place,
        )
    except ValueError:
        # Sizes are bounded when a snapshot is read: only endless streams lead here.
        raise SnapshotError("the recording uses more streams than there are addresses") from None
    return model, None


def _step(model: CachingAllocator, where: dict[int, int], event: TraceEvent) -> None:
    if event.action == "alloc":
        where[event.address] = model.malloc(event.size_bytes, event.stream)
    elif event.action == EMPTY_CACHE:
        model.empty_cache()
    else:
        # A recording may contradict itself (the agreement says so), and running out of
        # memory or emptying the cache may have completed a release before its time.
        with suppress(ValueError):
            _release(model, where, event)


def _release(model: CachingAllocator, where: dict[int, int], event: TraceEvent) -> None:
    if event.action == FREE_AT_ONCE:
        model.free(where.pop(event.address, 0))
    elif event.action == "free_completed":
        model.complete(where.pop(event.address, 0))
    else:
        address = where.get(event.address, 0)
        model.record_stream(address, _SOME_STREAM)
        model.free(address)

"""Replays recorded allocations and frees in PyTorch under other settings or on another GPU."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.dry_runs.allocator_runs import (
    ALLOCATE,
    EMPTY_CACHE,
    FREE,
    FREE_COMPLETED,
    FREE_REQUESTED,
    RELEASE_POOL,
    AllocatorRun,
    Operation,
    RunInOrders,
    run_in_pytorch,
)
from harness.schema.memory_fit import Fit, fit_of
from harness.snapshots import operations
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.file_bytes import Deadline, SnapshotError
from harness.snapshots.moments import seconds_at
from harness.snapshots.pools import POOL_SHIFT, STREAM_MASK
from harness.snapshots.trace_event import TraceEvent

AS_RECORDED = "as recorded"


@dataclass(frozen=True, kw_only=True)
class FailedReplay:
    """A request that failed in a replay; ``position`` is the index of its event."""

    position: int
    seconds: float | None
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    place: str | None


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """Result of a case; each replay of the case uses another order of addresses.

    ``peak_reserved_bytes`` is None if no run completed. ``ran_out`` contains the failed request of
    each run that did not complete, earliest first. If ``total_bytes`` is None, the memory is
    unlimited.
    """

    name: str
    settings: str
    total_bytes: int | None
    runs: int
    peak_reserved_bytes: tuple[int, int] | None
    peak_allocated_bytes: int | None
    most_retries: int
    ran_out: tuple[FailedReplay, ...]
    verdict: Fit
    is_asked: bool = False
    """True if the user asked for this case, by settings, a GPU or a size of memory."""


@dataclass(frozen=True, kw_only=True)
class RecordedWork:
    """Allocations and frees of a recorded program, in order.

    Blocks that are older than the recording are allocated first, at position -1.
    """

    events: Sequence[TraceEvent]
    steps: tuple[Operation, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A replay under given settings; ``is_asked`` is True if the user asked for it."""

    name: str
    settings: str
    total_bytes: int | None
    work: RecordedWork
    is_asked: bool = False


_ACTIONS = {
    "alloc": ALLOCATE,
    operations.FREE_AT_ONCE: FREE,
    "free_requested": FREE_REQUESTED,
    "free_completed": FREE_COMPLETED,
    operations.EMPTY_CACHE: EMPTY_CACHE,
    operations.RELEASE_POOL: RELEASE_POOL,
}


def find_work(history: DeviceHistory, until: int | None = None) -> RecordedWork:
    """Return the operations of the first ``until`` events, with a failed request at the end.

    Requests that failed earlier are left out.
    """
    events = history.events[:until]
    streams = _numbers({event.stream & STREAM_MASK for event in history.log})

    def operation(event: TraceEvent, position: int, action: int) -> Operation:
        stream, pool = streams[event.stream & STREAM_MASK], event.stream >> POOL_SHIFT
        return Operation(action, event.address, event.size_bytes, stream, pool, position)

    before = history.origin.live
    steps = [operation(before[address], -1, ALLOCATE) for address in sorted(before)]
    steps += [
        operation(event, position, _ACTIONS[event.action])
        for position, event in operations.workload(events)
        if event.action in _ACTIONS
    ]
    if until is not None and events and events[-1].action == "oom":
        steps.append(operation(events[-1]._replace(address=-1), until - 1, ALLOCATE))
    return RecordedWork(events=history.events, steps=tuple(steps))


def as_recorded(history: DeviceHistory, memory_bytes: int | None, work: RecordedWork) -> Case:
    """Return the case that replays the work under the recorded settings."""
    return Case(name=AS_RECORDED, settings=history.settings, total_bytes=memory_bytes, work=work)


def _numbers(streams: set[int]) -> dict[int, int]:
    """Return a small number for each stream; the default stream has the number 0."""
    return {stream: number for number, stream in enumerate(sorted(streams | {0}))}


def in_one_pool(work: RecordedWork) -> RecordedWork | None:
    """Return the work with all blocks in the default pool; None without private pools."""
    if not any(step.pool for step in work.steps):
        return None
    kept = (step for step in work.steps if step.action != RELEASE_POOL)
    return replace(work, steps=tuple(step._replace(pool=0) for step in kept))


def what_ifs(cases: Sequence[Case], deadline: Deadline) -> tuple[tuple[WhatIf, ...], list[str]]:
    """Replay the cases in PyTorch's allocator; return the results, and notes on refused cases.

    Raises:
        SnapshotError: PyTorch refuses the settings of the user, or the deadline has passed.
        UnavailableError: PyTorch cannot run with a pretended GPU on this machine.
    """
    doing = "replaying the recording"
    deadline.check(doing)
    works = list({id(case.work): case.work for case in cases}.values())
    numbers = {id(work): number for number, work in enumerate(works)}
    runs = [
        AllocatorRun(
            settings=case.settings, memory_bytes=case.total_bytes, work=numbers[id(case.work)]
        )
        for case in cases
    ]
    steps = [work.steps for work in works]
    try:
        answers = run_in_pytorch(steps, runs, deadline.left_seconds, "--what-if")
    except TimeoutError:
        raise deadline.over(doing) from None
    notes = []
    for case, answer in zip(cases, answers, strict=True):
        if answer.refused is not None:
            if case.is_asked:
                raise SnapshotError(f"--what-if {case.settings}: {answer.refused}")
            notes.append(f"{case.name}: PyTorch refuses {case.settings}: {answer.refused}")
    found = zip(cases, answers, strict=True)
    return tuple(_what_if(*each) for each in found if each[1].refused is None), notes


def why_other(first: WhatIf, recorded: int) -> Iterator[str]:
    """Yield a note if the replay's peak differs from the recorded peak."""
    if first.name != AS_RECORDED:
        return
    low, high = first.peak_reserved_bytes or (recorded, recorded)
    if not low <= recorded <= high:
        needed = str(low) if low == high else f"{low} to {high}"
        yield (
            f"the recording's own peak reserved is {recorded} bytes, the run as recorded needs "
            f"{needed}: the addresses that the driver chose, gaps between blocks from before the "
            "recording, and room that was made where memory was short are not replayed"
        )


def _what_if(case: Case, answer: RunInOrders) -> WhatIf:
    complete = [peaks for peaks in answer.peaks if peaks.ran_out is None]
    reserved = [peaks.reserved_bytes for peaks in complete]
    events = case.work.events
    failures = [
        FailedReplay(
            position=failed.position,
            seconds=seconds_at(events, failed.position),
            requested_bytes=failed.requested_bytes,
            allocated_bytes=failed.allocated_bytes,
            reserved_bytes=failed.reserved_bytes,
            place=events[failed.position].stack.place if failed.position >= 0 else None,
        )
        for peaks in answer.peaks
        if (failed := peaks.ran_out) is not None
    ]
    return WhatIf(
        name=case.name,
        settings=case.settings,
        total_bytes=case.total_bytes,
        runs=len(answer.peaks),
        peak_reserved_bytes=(min(reserved), max(reserved)) if reserved else None,
        peak_allocated_bytes=max((peaks.allocated_bytes for peaks in complete), default=None),
        most_retries=max(peaks.retries for peaks in answer.peaks),
        ran_out=tuple(sorted(failures, key=lambda failure: failure.position)),
        verdict=fit_of(in_every_case=not failures, in_some_case=bool(complete)),
        is_asked=case.is_asked,
    )

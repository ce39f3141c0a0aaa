"""A recording explained: what held the memory at the failure and the peak, and what would help."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import merge
from pathlib import Path

from harness.allocator import AllocatorConfig
from harness.plots.memory_page import Timeline
from harness.schema.growth import Growth
from harness.schema.units import format_bytes
from harness.snapshots.categories import Categories
from harness.snapshots.device_history import DeviceHistory, device_histories
from harness.snapshots.diagnosis import (
    Diagnosis,
    Failure,
    diagnose,
    find_failure,
    step_ends,
)
from harness.snapshots.file_bytes import DEFAULT_SECONDS, Deadline, SnapshotError
from harness.snapshots.moments import RecordedMoment, moment_at, timeline
from harness.snapshots.operations import EMPTY_CACHE
from harness.snapshots.recorded_timeline import recorded_timeline
from harness.snapshots.replay import notes_on_origin, why_other
from harness.snapshots.snapshot import read_recording
from harness.snapshots.what_if import (
    ALLOC,
    RecordedWork,
    WhatIf,
    find_work,
    in_one_pool,
    what_if,
)

_OTHER_SETTINGS = (
    "expandable_segments:True",
    "max_split_size_mb:64",
    "roundup_power2_divisions:8",
    "large_segment_size_mb:64",
)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One device of a recording, explained."""

    device: int
    events: int
    settings: str
    diagnosis: Diagnosis
    sentences: tuple[str, ...]
    failure: Failure | None
    moments: tuple[RecordedMoment, ...]
    growth: Growth
    peak_alive_bytes: int
    peak_reserved_bytes: int
    fragmentation_bytes: int
    what_ifs: tuple[WhatIf, ...]
    timeline: tuple[tuple[int, dict[str, int]], ...]
    notes: tuple[str, ...]
    blocks: Callable[[], Timeline] | None = field(default=None, repr=False, compare=False)
    """Returns every block, for the page; JSON leaves it out."""


def explain_file(
    path: Path,
    *,
    device: int | None = None,
    gpus: Mapping[str, int] | None = None,
    settings: str | None = None,
    deadline_seconds: float = DEFAULT_SECONDS,
) -> tuple[Explanation, ...]:
    """Explain every device of the recording at ``path``, one that ran out of memory first."""
    config = AllocatorConfig.from_settings(settings or "", total_bytes=1)
    if config.memory_fraction != 1:
        raise SnapshotError(
            "what-if settings must be without per_process_memory_fraction; give --memory instead"
        )
    deadline = Deadline(deadline_seconds)
    try:
        recording = read_recording(path, deadline)
        return tuple(
            _explain(each, gpus or {}, settings, deadline)
            for each in device_histories(recording, device)
        )
    except MemoryError:
        size = format_bytes(path.stat().st_size)
        raise SnapshotError(f"not enough memory to explain a recording of {size}") from None


def _explain(
    history: DeviceHistory,
    gpus: Mapping[str, int],
    settings: str | None,
    deadline: Deadline,
) -> Explanation:
    events, config = history.events, history.config
    notes = [*history.notes, *notes_on_origin(history.origin)]
    alive = history.alive_bytes[1:]
    failure = find_failure(history)
    until = len(events) if failure is None else failure.position + 1
    usable = None if failure is None else failure.usable_bytes
    kinds = Categories(events, history.steps)
    positions = {"at the peak": max(range(len(alive)), key=alive.__getitem__, default=-1)}
    if failure is not None:
        positions = {"at the failure": failure.position} | positions
    moments = [moment_at(*each, history, kinds) for each in positions.items()]
    ends = step_ends(history, until)
    growth = history.growth(ends)
    work = _work(history, failure)
    plain = replace(config, total_bytes=usable)
    cases = [
        what_if(name, each, done, deadline)
        for name, each, done in _cases(plain, work, ends, gpus, settings)
    ]
    peak = max(history.reserved_bytes)
    notes += why_other(cases[0], peak)
    diagnosis, sentences = diagnose(failure, growth, cases, moments, history)
    return Explanation(
        device=history.snapshot.device,
        events=len(events),
        settings=history.snapshot.settings,
        diagnosis=diagnosis,
        sentences=sentences,
        failure=failure,
        moments=tuple(moments),
        growth=growth,
        peak_alive_bytes=max(alive, default=0),
        peak_reserved_bytes=peak,
        fragmentation_bytes=peak - max(alive, default=0),
        what_ifs=tuple(cases),
        timeline=timeline(history, kinds),
        notes=tuple(notes),
        blocks=partial(recorded_timeline, history),
    )


def _work(history: DeviceHistory, failure: Failure | None) -> RecordedWork:
    """Return the work up to the request that failed, and that request itself."""
    if failure is None:
        return find_work(history)
    failed = history.events[failure.position]
    # What the allocator freed in vain for that request is no part of the program.
    work = find_work(history, failure.position + 1)
    last = (ALLOC, -1, failed.size_bytes, failed.stream, failure.position)
    return replace(work, steps=(*work.steps, last))


def _cases(
    plain: AllocatorConfig,
    work: RecordedWork,
    ends: Sequence[int],
    gpus: Mapping[str, int],
    settings: str | None,
) -> Iterator[tuple[str, AllocatorConfig, RecordedWork]]:
    """Yield each what-if's name, its settings and the work that is done under them."""
    yield "as recorded", plain, work
    for text in dict.fromkeys((*_OTHER_SETTINGS, *(() if settings is None else (settings,)))):
        yield text, AllocatorConfig.from_settings(text, total_bytes=plain.total_bytes), work
    together = in_one_pool(work)
    if together is not None:
        yield "no private pools", plain, together
    if ends:
        # The cache is emptied where each training step ends.
        edges = [(EMPTY_CACHE, 0, 0, 0, end) for end in ends]
        steps = merge(edges, work.steps, key=lambda step: step[4])
        yield "empty_cache() in each step", plain, replace(work, steps=tuple(steps))
    for name, total in gpus.items():
        yield name, replace(plain, total_bytes=total), work

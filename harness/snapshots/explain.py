"""Explains a recording: its live blocks at the failure and at the peak, and possible remedies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import merge
from pathlib import Path

from harness.dry_runs.allocator_runs import EMPTY_CACHE, Operation
from harness.plots.timeline import Timeline
from harness.schema.errors import UnavailableError
from harness.schema.growth import Growth
from harness.snapshots.categories import categories
from harness.snapshots.device_history import DeviceHistory, device_histories
from harness.snapshots.diagnosis import Diagnosis, diagnose
from harness.snapshots.failed_request import FailedRequest, find_failure, step_ends
from harness.snapshots.file_bytes import (
    DEFAULT_SECONDS,
    Deadline,
    SnapshotError,
    reading_a_recording,
)
from harness.snapshots.initial_state import notes_on_origin
from harness.snapshots.moments import RecordedMoment, moment_at, timeline
from harness.snapshots.recorded_timeline import recorded_timeline
from harness.snapshots.snapshot import read_recording
from harness.snapshots.what_if import (
    Case,
    WhatIf,
    as_recorded,
    find_work,
    in_one_pool,
    what_ifs,
    why_other,
)

_OTHER_SETTINGS = (
    "expandable_segments:True",
    "max_split_size_mb:64",
    "roundup_power2_divisions:8",
    "large_segment_size_mb:64",
)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of the memory of one device in a recording."""

    device: int
    events: int
    settings: str
    diagnosis: Diagnosis
    sentences: tuple[str, ...]
    failure: FailedRequest | None
    moments: tuple[RecordedMoment, ...]
    growth: Growth
    peak_alive_bytes: int
    peak_reserved_bytes: int
    fragmentation_bytes: int
    what_ifs: tuple[WhatIf, ...]
    timeline: tuple[tuple[int, dict[str, int]], ...]
    notes: tuple[str, ...]
    blocks: Callable[[], Timeline] | None = field(default=None, repr=False, compare=False)
    """Function that returns all blocks for the HTML page; it is left out of the JSON."""


def explain_file(
    path: Path,
    *,
    device: int | None = None,
    gpus: Mapping[str, int] | None = None,
    settings: str | None = None,
    deadline_seconds: float = DEFAULT_SECONDS,
) -> tuple[Explanation, ...]:
    """Explain each device in the file at ``path``; devices that ran out of memory come first."""
    if "per_process_memory_fraction" in (settings or ""):
        raise SnapshotError(
            "what-if settings must be without per_process_memory_fraction; give --memory instead"
        )
    deadline = Deadline(deadline_seconds)
    with reading_a_recording(path, "explain"):
        recording = read_recording(path, deadline)
        return tuple(
            _explain(each, gpus or {}, settings, deadline)
            for each in device_histories(recording, device)
        )


def _explain(
    history: DeviceHistory,
    gpus: Mapping[str, int],
    settings: str | None,
    deadline: Deadline,
) -> Explanation:
    events = history.events
    notes = [*history.notes, *notes_on_origin(history.origin)]
    alive = history.alive_bytes[1:]
    failure = find_failure(history)
    until = len(events) if failure is None else failure.position + 1
    category_at = categories(history)
    positions = {"at the peak": max(range(len(alive)), key=alive.__getitem__, default=-1)}
    if failure is not None:
        positions = {"at the failure": failure.position} | positions
    moments = [moment_at(*each, history, category_at) for each in positions.items()]
    ends = step_ends(history, until)
    growth = history.growth(ends)
    cases = [*_cases(history, failure, ends, gpus, settings)]
    peak = max(history.reserved_bytes)
    try:
        answers, refused = what_ifs(cases, deadline)
        notes += [*refused, *(note for each in answers[:1] for note in why_other(each, peak))]
    except UnavailableError as error:
        if settings is not None:  # they were asked for
            raise
        answers = ()
        notes.append(f"no what-ifs: {error}")
    diagnosis, sentences = diagnose(failure, growth, answers, moments, history)
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
        what_ifs=answers,
        timeline=timeline(history, category_at),
        notes=tuple(notes),
        blocks=partial(recorded_timeline, history),
    )


def _cases(
    history: DeviceHistory,
    failure: FailedRequest | None,
    ends: Sequence[int],
    gpus: Mapping[str, int],
    settings: str | None,
) -> Iterator[Case]:
    """Yield the cases to replay: first as recorded, then with one change each.

    Changed cases use other settings, no private pools, ``empty_cache()`` in each step, or another
    GPU. The replay ends with the failed request. The replay leaves out the segment frees that the
    failed request caused.
    """
    until = None if failure is None else failure.position + 1
    usable = None if failure is None else failure.usable_bytes
    plain = as_recorded(history, usable, find_work(history, until))
    yield plain
    for text in _OTHER_SETTINGS:
        if text != settings:
            yield replace(plain, name=text, settings=text)
    if settings is not None:
        yield replace(plain, name=settings, settings=settings, is_asked=True)
    together = in_one_pool(plain.work)
    if together is not None:
        yield replace(plain, name="no private pools", work=together)
    if ends:
        edges = [Operation(EMPTY_CACHE, 0, 0, 0, 0, end) for end in ends]
        steps = merge(edges, plain.work.steps, key=lambda step: step.position)
        emptied = replace(plain.work, steps=tuple(steps))
        yield replace(plain, name="empty_cache() in each step", work=emptied)
    for name, total in gpus.items():
        yield replace(plain, name=name, total_bytes=total, is_asked=True)

"""One call that reads a snapshot and asks what other settings would have made of it; its text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.dry_runs.allocator_runs import FREE_REQUESTED
from harness.schema.units import format_bytes
from harness.snapshots.device_history import DeviceHistory, device_histories
from harness.snapshots.file_bytes import DEFAULT_SECONDS, Deadline, reading_a_recording
from harness.snapshots.initial_state import Origin
from harness.snapshots.snapshot import read_recording
from harness.snapshots.trace_event import TraceEvent
from harness.snapshots.what_if import (
    AS_RECORDED,
    Case,
    RecordedWork,
    WhatIf,
    find_work,
    what_ifs,
)


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A recording and its what-ifs; ``notes`` say what was assumed or left out."""

    device: int
    events: int
    settings: str
    live_at_start_bytes: int
    reserved_at_start_bytes: int
    recorded_peak_reserved_bytes: int
    peak_alive_bytes: int
    what_ifs: tuple[WhatIf, ...]
    notes: tuple[str, ...]


def replay_devices(
    path: Path,
    *,
    device: int | None = None,
    settings: str | None = None,
    memory_bytes: int | None = None,
    deadline_seconds: float = DEFAULT_SECONDS,
) -> tuple[Replay, ...]:
    """Replay every device of the snapshot at ``path``; a device that ran out of memory first.

    ``memory_bytes`` is the GPU's memory in every what-if.
    """
    deadline = Deadline(deadline_seconds)
    with reading_a_recording(path, "replay"):
        recording = read_recording(path, deadline)
        return tuple(
            _replay(each, settings, memory_bytes, deadline)
            for each in device_histories(recording, device)
        )


def as_recorded(history: DeviceHistory, memory_bytes: int | None, work: RecordedWork) -> Case:
    """Return the case of the recorded settings."""
    return Case(name=AS_RECORDED, settings=history.settings, total_bytes=memory_bytes, work=work)


def _replay(
    history: DeviceHistory, settings: str | None, memory_bytes: int | None, deadline: Deadline
) -> Replay:
    origin, work = history.origin, find_work(history)
    notes = [*history.notes, *_notes_on_events(history.events), *notes_on_origin(origin)]
    plain = as_recorded(history, memory_bytes, work)
    if settings is None:
        expandable = ",".join(filter(None, [plain.settings, "expandable_segments:True"]))
        other = replace(plain, name="expandable segments", settings=expandable)
    else:
        other = replace(plain, name=f"settings {settings}", settings=settings, is_asked=True)
        if memory_bytes is None:
            notes.append("no memory is given, so nothing fails: --memory SIZE says what fits")
    answers, refused = what_ifs([plain, other], deadline)
    recorded_peak = max(history.reserved_bytes)
    delayed = sum(step.action == FREE_REQUESTED for step in work.steps)
    if delayed:
        notes.append(
            f"{delayed} releases waited for another stream; each counts as allocated until it was"
            " complete"
        )
    notes += [*refused, *(note for each in answers[:1] for note in why_other(each, recorded_peak))]
    return Replay(
        device=history.snapshot.device,
        events=len(history.events),
        settings=history.snapshot.settings,
        live_at_start_bytes=history.alive_bytes[0],
        reserved_at_start_bytes=origin.reserved_bytes,
        recorded_peak_reserved_bytes=recorded_peak,
        peak_alive_bytes=max(history.alive_bytes),
        what_ifs=answers,
        notes=tuple(notes),
    )


def _notes_on_events(events: Sequence[TraceEvent]) -> Iterator[str]:
    """Name what the recorded events contain that the what-ifs leave out or cannot know."""
    actions = {event.action for event in events}
    if "oom" in actions:
        yield "requests that failed when recorded are left out of the what-ifs"
    if {"segment_alloc", "segment_map"} <= actions:
        yield "expandable segments were switched on or off on the way; when is not recorded"


def notes_on_origin(origin: Origin) -> Iterator[str]:
    """Say what was there before the recording began."""
    if origin.reserved_bytes or origin.live:
        yield (
            f"the recording begins in the middle: {len(origin.live)} blocks and "
            f"{origin.reserved_bytes} reserved bytes were there before"
        )


def why_other(first: WhatIf, recorded: int) -> Iterator[str]:
    """Say why the run under the recorded settings has another peak than the recording, if so."""
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


def replay_text(replay: Replay) -> str:
    """Return the replay as lines of text."""
    return "\n".join(_lines(replay)) + "\n"


def _lines(replay: Replay) -> Iterator[str]:
    settings = replay.settings or "default settings"
    yield f"device {replay.device}: {replay.events} events, {settings}"
    for note in replay.notes:
        yield f"note: {note}"
    yield ""
    alive = _exact(replay.peak_alive_bytes)
    yield f"alive at the peak: {alive} requested; harness explain says which blocks"
    yield ""
    yield "what if"
    for case in replay.what_ifs:
        yield from _what_if_lines(case)


def _what_if_lines(case: WhatIf) -> Iterator[str]:
    total = case.total_bytes
    gpu = "" if total is None else f" on {format_bytes(total)}: {case.verdict}"
    yield f"  {case.name}{gpu}"
    if case.peak_reserved_bytes is not None:
        low, high = case.peak_reserved_bytes
        reserved = _exact(low) if low == high else f"{_exact(low)} to {_exact(high)}"
        allocated = _exact(case.peak_allocated_bytes or 0)
        yield f"    peak reserved {reserved}; peak allocated {allocated}"
    if case.most_retries:
        times = f"{case.most_retries:,} time{'s' * (case.most_retries != 1)}"
        yield f"    emptied the cache to make room {times}"
    for ran_out in case.ran_out[:1]:
        when = "" if ran_out.seconds is None else f" ({ran_out.seconds:.3f} s)"
        place = "" if ran_out.place is None else f" in {ran_out.place}"
        yield (
            f"    runs out at event {ran_out.position}{when}: {ran_out.requested_bytes} B "
            f"requested{place}, {_exact(ran_out.allocated_bytes)} allocated, "
            f"{_exact(ran_out.reserved_bytes)} reserved ({len(case.ran_out)} of {case.runs} "
            "address orders)"
        )


def _exact(size: int) -> str:
    return f"{format_bytes(size)} ({size} B)"

"""One call that reads a snapshot, follows it, and asks what else could have been."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from harness.allocator import AllocatorConfig
from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import DEFAULT_SECONDS, Deadline, SnapshotError
from harness.snapshots.follower import Agreement, Follower
from harness.snapshots.initial_state import Origin, find_origin, recorded_config
from harness.snapshots.moments import Peak, find_peak
from harness.snapshots.pools import notes_on_pools
from harness.snapshots.snapshot import Recording, Snapshot, read_recording
from harness.snapshots.trace_event import TraceEvent, reserved_change
from harness.snapshots.what_if import WhatIf, find_workload, what_if


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A recording next to the model's replay of it.

    ``agreement`` is None where the beginning could not be derived; ``notes`` say why, and
    whatever else was assumed or left out.
    """

    device: int
    events: int
    settings: str
    config: AllocatorConfig
    live_at_start_bytes: int
    reserved_at_start_bytes: int
    recorded_peak_reserved_bytes: int
    agreement: Agreement | None
    peak: Peak
    what_ifs: tuple[WhatIf, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        return {**asdict(self), "what_ifs": [case.as_dict() for case in self.what_ifs]}


def replay_devices(
    path: Path,
    *,
    device: int | None = None,
    settings: str | None = None,
    memory_bytes: int | None = None,
    recorded_on_bytes: int | None = None,
    deadline_seconds: float = DEFAULT_SECONDS,
) -> tuple[Replay, ...]:
    """Replay every device of the snapshot at ``path``; a device that ran out of memory first.

    ``memory_bytes`` is the GPU's memory in every what-if. ``recorded_on_bytes`` is that of the GPU
    that made the recording, which no recording says: it decides how far an expandable segment can
    grow on a GPU that is nearly full.
    """
    others: dict[str, AllocatorConfig] = {}
    if settings is not None:
        config = AllocatorConfig.from_settings(settings, total_bytes=memory_bytes)
        others = {f"settings {settings}": config}
    deadline = Deadline(deadline_seconds)
    try:
        recording = read_recording(path, deadline)
        return tuple(
            _replay(recording, each, others, memory_bytes, recorded_on_bytes, deadline)
            for each in recording.devices(device)
        )
    except MemoryError:
        size = format_bytes(path.stat().st_size)
        raise SnapshotError(f"not enough memory to replay a recording of {size}") from None


def notes_on_file(recording: Recording) -> Iterator[str]:
    """Yield the devices of a recording of several, and how much host memory is pinned in it."""
    if len(recording.snapshots) > 1:
        devices = (f"{each.device} ({len(each.events):,} events)" for each in recording.snapshots)
        yield f"devices in the recording: {', '.join(devices)}"
    if recording.pinned_bytes:
        yield f"{format_bytes(recording.pinned_bytes)} of pinned host memory is not GPU memory"


def _replay(
    recording: Recording,
    snapshot: Snapshot,
    others: Mapping[str, AllocatorConfig],
    memory_bytes: int | None,
    recorded_on_bytes: int | None,
    deadline: Deadline,
) -> Replay:
    config, notes = recorded_config(snapshot)
    events = snapshot.events
    origin = find_origin(snapshot, events, config)
    deadline.check("replaying the recording")
    on_gpu = replace(config, total_bytes=recorded_on_bytes)
    agreement = _agreement(snapshot, on_gpu, origin, deadline)
    notes = [*notes_on_file(recording), *notes, *_notes_on_events(snapshot)]
    notes += notes_on_origin(origin)
    if agreement is None:
        why_not = origin.why_not or "segments overlap"
        notes.append(f"the beginning cannot be derived: {why_not}; nothing to compare")
    expandable = replace(config, expandable_segments=True)
    configs = {"as recorded": config, "expandable segments": expandable, **others}
    work = find_workload(events, origin)
    what_ifs = tuple(
        what_if(name, replace(each, total_bytes=memory_bytes), work, deadline)
        for name, each in configs.items()
    )
    recorded_peak = peak_reserved(events, origin)
    notes += why_other(what_ifs[0], recorded_peak)
    return Replay(
        device=snapshot.device,
        events=len(events),
        settings=snapshot.settings,
        config=config,
        live_at_start_bytes=sum(origin.live.values()),
        reserved_at_start_bytes=origin.reserved_bytes,
        agreement=agreement,
        recorded_peak_reserved_bytes=recorded_peak,
        peak=find_peak(events, origin),
        what_ifs=what_ifs,
        notes=tuple(notes),
    )


def _notes_on_events(snapshot: Snapshot) -> Iterator[str]:
    """Say what the recorded events have that the what-ifs treat otherwise or cannot know."""
    yield from notes_on_pools(snapshot.events, snapshot.segments)
    actions = {event.action for event in snapshot.events}
    if "oom" in actions:
        yield "requests that failed when recorded are left out of the what-ifs"
    if {"segment_alloc", "segment_map"} <= actions:
        yield "expandable segments were switched on or off on the way; when is not recorded"


def notes_on_origin(origin: Origin) -> Iterator[str]:
    """Say what was there before the recording began, and how surely it is known."""
    if not origin.is_start():
        yield (
            f"the recording begins in the middle: {len(origin.live)} blocks and "
            f"{origin.reserved_bytes} reserved bytes were there before"
        )
    if origin.uncertain_blocks:
        yield (
            f"{origin.uncertain_blocks} of the blocks that were there before may be up to 1 MiB "
            "longer than derived"
        )


def why_other(as_recorded: WhatIf, recorded: int) -> Iterator[str]:
    """Say why the run under the recorded settings has another peak than the recording, if so."""
    low, high = as_recorded.peak_reserved_bytes or (recorded, recorded)
    if not low <= recorded <= high:
        needed = str(low) if low == high else f"{low} to {high}"
        yield (
            f"the recording's own peak reserved is {recorded} bytes, the run as recorded needs "
            f"{needed}: the addresses that the driver chose, gaps between blocks from before the "
            "recording, and room that was made where memory was short are not replayed"
        )


def peak_reserved(events: Sequence[TraceEvent], origin: Origin) -> int:
    """Return the most that was reserved at any moment, as recorded."""
    return max(accumulate(map(reserved_change, events), initial=origin.reserved_bytes))


def _agreement(
    snapshot: Snapshot, config: AllocatorConfig, origin: Origin, deadline: Deadline
) -> Agreement | None:
    if origin.layout is None:
        return None
    try:
        follower = Follower(config, origin)
    except ValueError:  # segments that overlap, as no driver allocates
        return None
    follower.run(snapshot.events, deadline)
    return follower.agreement(snapshot)

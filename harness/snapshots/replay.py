"""One call that reads a snapshot, follows it, and asks what else could have been."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.allocator import AllocatorConfig, AllocatorConfigError
from harness.allocator.config import UNLIMITED
from harness.snapshots.initial_state import Origin, find_origin
from harness.snapshots.peak import Peak, find_peak
from harness.snapshots.replay_events import Agreement, Follower
from harness.snapshots.snapshot import Snapshot, TraceEvent, read_snapshot
from harness.snapshots.what_if import WhatIf, what_if


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a recording says and what the model makes of it.

    ``agreement`` is None where the beginning could not be derived; ``notes`` say why, and
    whatever else was assumed or left out.
    """

    device: int
    events: int
    settings: str
    config: AllocatorConfig
    origin: Origin
    agreement: Agreement | None
    peak: Peak
    what_ifs: tuple[WhatIf, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain data, for JSON; the beginning as its totals."""
        what_ifs = [{**asdict(case), "verdict": case.verdict()} for case in self.what_ifs]
        return {
            "device": self.device,
            "events": self.events,
            "settings": self.settings,
            "config": asdict(self.config),
            "live_at_start_bytes": sum(self.origin.live.values()),
            "reserved_at_start_bytes": self.origin.reserved_bytes,
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "peak": asdict(self.peak),
            "what_ifs": what_ifs,
            "notes": list(self.notes),
        }


def replay_file(
    path: Path,
    *,
    device: int | None = None,
    settings: str | None = None,
    memory_bytes: int | None = None,
    outside_bytes: int = 0,
    recorded_on_bytes: int | None = None,
) -> Replay:
    """Replay the snapshot at ``path`` and return what came of it.

    Args:
        path: a pickle of ``torch.cuda.memory._dump_snapshot``, compressed by gzip or not.
        device: whose trace; the one with most events unless given.
        settings: what ``PYTORCH_ALLOC_CONF`` would say in another what-if.
        memory_bytes: the card's memory in every what-if; without end unless given.
        outside_bytes: what context, libraries and other processes would hold of it.
        recorded_on_bytes: memory of the card that made the recording, which no recording
            says. It matters only to expandable segments on a card nearly full: how far a
            segment's end can grow (to 1 1/8 of the card) decides between free blocks.

    Raises:
        SnapshotError: the file is no snapshot, or holds more than data; one line.
        AllocatorConfigError: ``settings`` or the sizes are not fit; one line.

    """
    card = AllocatorConfig(total_bytes=memory_bytes, outside_bytes=outside_bytes)
    asked = None
    if settings is not None:
        asked = AllocatorConfig.from_settings(
            settings, total_bytes=memory_bytes, outside_bytes=outside_bytes
        )
    snapshot = read_snapshot(path, device)
    config, notes = recorded_config(snapshot)
    events, left_out = default_pool_events(snapshot)
    if left_out:
        notes.append(f"{left_out} events of private pools (CUDA graphs, MemPool) are left out")
    if any(event.action == "oom" for event in events):
        notes.append("requests that failed when recorded are left out of the what-ifs")
    if {"segment_alloc", "segment_map"} <= {event.action for event in events}:
        notes.append("expandable segments were switched on or off on the way; when is not recorded")
    origin = find_origin(snapshot, events, config)
    if not origin.is_start():
        notes.append(
            f"the recording begins in the middle: {len(origin.live)} blocks and "
            f"{origin.reserved_bytes} reserved bytes were there before"
        )
    if origin.uncertain_blocks:
        notes.append(
            f"{origin.uncertain_blocks} of the blocks that were there before may be up to 1 MiB "
            "longer than derived"
        )
    agreement = _agreement(snapshot, events, replace(config, total_bytes=recorded_on_bytes), origin)
    if agreement is None:
        notes.append(f"the beginning cannot be derived: {origin.why_not}; nothing to compare")
    configs = {"as recorded": config, "expandable segments": _expandable(config)}
    if asked is not None:
        configs[f"settings {settings}"] = asked
    what_ifs = (
        what_if(name, _on_card(variant, card), events, origin) for name, variant in configs.items()
    )
    return Replay(
        device=snapshot.device,
        events=len(snapshot.events),
        settings=snapshot.settings,
        config=config,
        origin=origin,
        agreement=agreement,
        peak=find_peak(events, origin),
        what_ifs=tuple(what_ifs),
        notes=tuple(notes),
    )


def follow_snapshot(snapshot: Snapshot, recorded_on_bytes: int | None = None) -> Agreement | None:
    """Return where the model agrees with a recording; None where its beginning is lost."""
    config, _ = recorded_config(snapshot)
    events, _ = default_pool_events(snapshot)
    origin = find_origin(snapshot, events, config)
    return _agreement(snapshot, events, replace(config, total_bytes=recorded_on_bytes), origin)


def _agreement(
    snapshot: Snapshot, events: list[TraceEvent], config: AllocatorConfig, origin: Origin
) -> Agreement | None:
    if origin.layout is None:
        return None
    follower = Follower(config, origin)
    follower.run(events)
    return follower.agreement(snapshot)


def default_pool_events(snapshot: Snapshot) -> tuple[list[TraceEvent], int]:
    """Return the events of the default pools, and how many others there were."""
    private = [
        (segment.address, segment.address + segment.size_bytes)
        for segment in snapshot.segments
        if segment.private
    ]
    events = [
        event
        for event in snapshot.events
        if not event.private
        and (
            event.action == "oom" or not any(start <= event.address < end for start, end in private)
        )
    ]
    return events, len(snapshot.events) - len(events)


def recorded_config(snapshot: Snapshot) -> tuple[AllocatorConfig, list[str]]:
    """Return the settings of a recording, and what had to be assumed."""
    notes = []
    if not snapshot.flags:
        notes.append("the recording holds no settings (before PyTorch 2.3): defaults are assumed")
    try:
        config = AllocatorConfig.from_settings(snapshot.settings, total_bytes=1)
    except AllocatorConfigError as error:
        notes.append(f"{error}; it is ignored")
        config = AllocatorConfig()
    # How large the card was, and so what a fraction of it is, is in no recording.
    fields: dict[str, Any] = {"total_bytes": None, "memory_fraction": 1.0}
    fields.update(_understood(snapshot.flags))
    try:
        return replace(config, **fields), notes
    except AllocatorConfigError as error:
        notes.append(f"{error}; it is ignored")
        return AllocatorConfig(), notes


def _understood(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the allocator itself reported, which later calls may have set."""
    fields: dict[str, Any] = {}
    expandable = flags.get("expandable_segments")
    if isinstance(expandable, bool):
        fields["expandable_segments"] = expandable
    limit = flags.get("max_split_size")
    if isinstance(limit, int):
        fields["max_split_size_bytes"] = limit if limit > 0 else UNLIMITED
    divisions = flags.get("roundup_power2_divisions")
    if isinstance(divisions, dict) and len(divisions) == 16:
        table = tuple(divisions.values())
        if all(isinstance(entry, int) for entry in table):
            fields["roundup_power2_divisions"] = table
    return fields


def _expandable(config: AllocatorConfig) -> AllocatorConfig:
    return replace(config, expandable_segments=True)


def _on_card(config: AllocatorConfig, card: AllocatorConfig) -> AllocatorConfig:
    return replace(config, total_bytes=card.total_bytes, outside_bytes=card.outside_bytes)

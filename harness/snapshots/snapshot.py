"""A memory snapshot as ``torch.cuda.memory._dump_snapshot`` writes it, checked and typed.

The format: ``torch/cuda/_memory_viz.py`` and ``torch/csrc/cuda/memory_snapshot.cpp``,
PyTorch 2.1 to 2.13. Later versions add keys (``pool_id``, ``compile_context``); those that
are missing have the value they had before they existed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.allocator.config import MIB
from harness.snapshots.file_bytes import Deadline, SnapshotError, read_bytes
from harness.snapshots.pools import number_pools
from harness.snapshots.trace_event import (
    ACTIONS,
    ADDRESS_LIMIT,
    DEFAULT_POOL,
    FRAMES_READ,
    SIZE_LIMIT,
    RecordedBlock,
    RecordedSegment,
    Stack,
    TraceEvent,
    pool_of,
    printable,
    stack_of,
    stream_of,
    time_of,
)
from harness.snapshots.unpickler import load_builtins

_STATES = frozenset({"active_allocated", "active_pending_free", "active_awaiting_free", "inactive"})
_ALL_TOGETHER = 1 << 56
_EVENTS_BETWEEN_CHECKS = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The recording of one device's allocator.

    ``settings`` is what ``PYTORCH_CUDA_ALLOC_CONF`` said; ``flags`` are the settings as the
    allocator understood them (both empty before PyTorch 2.3).
    """

    device: int
    events: tuple[TraceEvent, ...]
    segments: tuple[RecordedSegment, ...]
    settings: str
    flags: Mapping[str, Any]


class Annotation(NamedTuple):
    """The beginning or the end of a named range, such as ``Optimizer.step#AdamW.step``."""

    is_start: bool
    name: str
    device: int
    time_us: int


@dataclass(frozen=True, kw_only=True)
class Recording:
    """All devices of a file: one snapshot for each that has events or segments.

    ``pinned_bytes`` is page-locked host memory, which PyTorch 2.9 and later record next to
    the devices; ``annotations`` are the ranges that PyTorch's own optimizers and loaders mark.
    """

    snapshots: tuple[Snapshot, ...]
    pinned_bytes: int
    annotations: tuple[Annotation, ...]

    def devices(self, device: int | None = None) -> tuple[Snapshot, ...]:
        """Return one device, or all: out of memory first, then by the number of events."""

        def order(snapshot: Snapshot) -> tuple[bool, int]:
            failed = any(event.action == "oom" for event in snapshot.events)
            return not failed, -len(snapshot.events)

        chosen = [each for each in self.snapshots if device in (None, each.device)]
        if not chosen:
            there = ", ".join(str(each.device) for each in self.snapshots)
            raise SnapshotError(f"the recording has no device {device}, only {there}")
        return tuple(sorted(chosen, key=order))


def read_recording(path: Path, deadline: Deadline | None = None) -> Recording:
    """Read the recording at ``path``, every device of it."""
    deadline = Deadline() if deadline is None else deadline
    try:
        return _recording(read_bytes(path), deadline)
    except SnapshotError as error:
        raise SnapshotError(f"{str(path)!r}: {error}") from None


def _recording(data: bytearray, deadline: Deadline) -> Recording:
    raw = load_builtins(data, deadline=deadline)
    if isinstance(raw, list):
        raise SnapshotError("the snapshot has no trace; record one with PyTorch 2.1 or later")
    if not isinstance(raw, dict) or not {"device_traces", "segments"} & set(raw):
        raise SnapshotError("the file is a pickle, but no memory snapshot")
    traces = _get(raw, "device_traces", list)
    if not traces or not all(isinstance(trace, list) for trace in traces):
        raise SnapshotError("the snapshot has no trace of any device")
    flags = raw.get("allocator_settings", {})
    if not isinstance(flags, dict):
        raise SnapshotError("the snapshot's allocator_settings is no dict")
    settings = flags.get("PYTORCH_CUDA_ALLOC_CONF", flags.get("PYTORCH_ALLOC_CONF", ""))
    segments: dict[int, list[RecordedSegment]] = {}
    for entry in _get(raw, "segments", list):
        device, segment = _segment(entry)
        segments.setdefault(device, []).append(segment)
    for number, trace in enumerate(traces):
        if trace:
            segments.setdefault(number, [])
    # A recording of nothing is one of an idle device 0.
    devices = sorted(number for number in segments if number < len(traces)) or [0]
    text = printable(settings) if isinstance(settings, str) else ""
    snapshots = tuple(
        _snapshot(device, _events(traces[device], deadline), segments.get(device, ()), text, flags)
        for device in devices
    )
    for snapshot in snapshots:
        _refuse_cpu(snapshot.events)
    return Recording(
        snapshots=snapshots,
        pinned_bytes=_pinned(raw.get("host_segments")),
        annotations=_annotations(raw.get("external_annotations")),
    )


def _snapshot(
    device: int,
    events: tuple[TraceEvent, ...],
    segments: Sequence[RecordedSegment],
    settings: str,
    flags: Mapping[str, Any],
) -> Snapshot:
    in_order = tuple(sorted(segments, key=lambda each: each.address))
    events, in_order = number_pools(events, in_order)
    return Snapshot(device=device, events=events, segments=in_order, settings=settings, flags=flags)


def _refuse_cpu(events: Sequence[TraceEvent]) -> None:
    """Refuse what ``harness profile --snapshot`` writes: each block as a segment of its own.

    Whole mebibytes are what the CUDA allocator asks of the driver, whatever its settings.
    """
    taken = [event.size_bytes for event in events if event.action == "segment_alloc"]
    if 2 * sum(size % MIB != 0 for size in taken) > len(taken):
        raise SnapshotError(
            "not a recording of the CUDA allocator: this looks like a CPU profile (harness "
            "profile --snapshot), which is made for PyTorch's memory viewer"
        )


def _events(trace: list[Any], deadline: Deadline) -> tuple[TraceEvent, ...]:
    """Return a trace as events; its list is emptied on the way, for the memory's sake."""
    stacks: dict[tuple[int, ...], tuple[Any, Stack]] = {}
    events: list[TraceEvent] = []
    total = 0
    trace.reverse()
    while trace:
        if len(trace) % _EVENTS_BETWEEN_CHECKS == 0:
            deadline.check("reading the recording")
        event = _event(trace.pop(), stacks)
        total += event.size_bytes
        events.append(event)
    if total > _ALL_TOGETHER:
        raise SnapshotError("the recorded sizes add up to more than any GPU could hold")
    return tuple(events)


def _pinned(segments: Any) -> int:
    sizes = (
        (entry.get("total_size") for entry in segments or () if isinstance(entry, dict))
        if isinstance(segments, list)
        else ()
    )
    return sum(size for size in sizes if isinstance(size, int) and 0 <= size < SIZE_LIMIT)


def _annotations(entries: Any) -> tuple[Annotation, ...]:
    """Return the marked ranges that make sense; no number needs the others."""
    annotations = []
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        stage, name, device = (entry.get(key) for key in ("stage", "name", "device"))
        time = time_of(entry.get("time_us"))
        if stage in ("START", "END") and isinstance(name, str) and time is not None:
            number = device if isinstance(device, int) else 0
            annotations.append(Annotation(stage == "START", printable(name), number, time))
    return tuple(annotations)


def _get(entry: Any, key: str, kind: type, default: Any = None) -> Any:
    if not isinstance(entry, dict):
        raise SnapshotError("the file is a pickle, but no memory snapshot")
    value = entry.get(key, default)
    if not isinstance(value, kind):
        raise SnapshotError(f"not a CUDA memory snapshot (no valid {key!r})")
    return value


def _number(entry: Any, key: str, default: int | None = None) -> int:
    value = _get(entry, key, int, default)
    assert isinstance(value, int)
    if not 0 <= value < (SIZE_LIMIT if "size" in key else ADDRESS_LIMIT):
        raise SnapshotError(f"the snapshot has {key!r} out of range")
    return value


def _event(entry: Any, stacks: dict[tuple[int, ...], tuple[Any, Stack]]) -> TraceEvent:
    action = _get(entry, "action", str)
    if action not in ACTIONS:
        raise SnapshotError(f"the snapshot has an unknown event {printable(action[:40])!r}")
    frames = entry.get("frames")
    key = tuple(map(id, frames[:FRAMES_READ])) if isinstance(frames, list) else ()
    known = stacks.get(key)
    if known is None:
        # The frames are kept next to their text, so that no others get their identities.
        known = stacks[key] = (frames, stack_of(frames))
    event = TraceEvent(
        action=action,
        address=_device_free(entry) if action == "oom" else _number(entry, "addr", 0),
        size_bytes=_number(entry, "size", 0),
        stream=stream_of(entry.get("stream", 0)),
        pool=pool_of(entry.get("pool_id")),
        time_us=time_of(entry.get("time_us")),
        stack=known[1],
    )
    # PyTorch writes a dict for each event; one dict used many times would make a long trace of
    # a short file. Emptied, it cannot be used again.
    entry.clear()
    return event


def _device_free(entry: dict[str, Any]) -> int:
    """Return what the driver had left when memory ran out, 0 where it is not recorded."""
    free = entry.get("device_free")
    return free if isinstance(free, int) and 0 <= free < SIZE_LIMIT else 0


def _segment(entry: Any) -> tuple[int, RecordedSegment]:
    address = _number(entry, "address")
    kind = _get(entry, "segment_type", str)
    blocks = []
    position = address
    for raw in _get(entry, "blocks", list):
        size = _number(raw, "size")
        state = _get(raw, "state", str)
        if state not in _STATES or size == 0:
            raise SnapshotError(
                f"the segment at {address:#x} has a block of an impossible size or state"
            )
        requested = 0 if state == "inactive" else _number(raw, "requested_size", size)
        blocks.append(RecordedBlock(position, size, requested, state))
        position += size
    if position - address != _number(entry, "total_size"):
        raise SnapshotError(f"the blocks of the segment at {address:#x} do not fill it")
    return _number(entry, "device", 0), RecordedSegment(
        address=address,
        size_bytes=position - address,
        stream=stream_of(entry.get("stream", 0)),
        is_large=kind == "large",
        is_expandable=_get(entry, "is_expandable", bool, False),
        pool=pool_of(entry.get("segment_pool_id")) or DEFAULT_POOL,
        blocks=tuple(blocks),
    )

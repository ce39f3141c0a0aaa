"""Reads and checks a memory snapshot that ``torch.cuda.memory._dump_snapshot`` wrote.

The format is that of ``torch/cuda/_memory_viz.py`` and ``torch/csrc/cuda/memory_snapshot.cpp`` in
PyTorch 2.1 to 2.15. Later versions add keys (``pool_id``, ``compile_context``); a missing key gets
the value that earlier versions implied. An entry of the trace with an unknown action is skipped.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from harness.snapshots.file_bytes import EVENTS_BETWEEN_CHECKS, Deadline, SnapshotError, read_bytes
from harness.snapshots.pools import STREAM_MASK, number_pools
from harness.snapshots.trace_event import (
    ACTIONS,
    ADDRESS_LIMIT,
    FRAMES_READ,
    GIVING,
    TAKING,
    Address,
    PoolId,
    RecordedSegment,
    Size,
    Stack,
    TraceEvent,
    printable,
    stack_of,
)
from harness.snapshots.unpickler import load_builtins

_ALL_TOGETHER = 1 << 56
_ANNOTATE = "annotate"
MOST_OWNERS = 4 << 20
"""Largest number of recorded owners that are used; with more owners, categories are guessed."""


class OwnersAt(msgspec.Struct):
    """Categories of live blocks, recorded after a certain number of allocations."""

    allocations: Address
    owners: Any
    """Dict from address to category, as recorded."""

    def __post_init__(self) -> None:
        if not isinstance(self.owners, dict):
            raise ValueError("owners must be a dict")


class KnownOwners(msgspec.Struct):
    """Data that a dry run adds to a snapshot for one device, such as the owners of blocks."""

    allocations: Address
    workspace_bytes: Size | None = None
    marks: list[OwnersAt] = []

    def __post_init__(self) -> None:
        # One dict used many times would make much work of a short file.
        if sum(len(mark.owners) for mark in self.marks) > MOST_OWNERS:
            self.marks = []


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The recording of one device's allocator.

    ``owners`` is None if the recording is not from a dry run. ``settings`` is the text of
    ``PYTORCH_CUDA_ALLOC_CONF``. ``flags`` are the settings that the allocator parsed. Before
    PyTorch 2.3, ``settings`` and ``flags`` are empty.
    """

    device: int
    events: tuple[TraceEvent, ...]
    segments: tuple[RecordedSegment, ...]
    settings: str
    flags: Mapping[str, Any]
    owners: KnownOwners | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Number of skipped entries of the trace, by their unknown action."""


class Annotation(msgspec.Struct):
    """Start or end of a named range, such as ``Optimizer.step#AdamW.step``."""

    stage: Literal["START", "END"]
    name: str
    time_us: Address
    device: int = 0


@dataclass(frozen=True, kw_only=True)
class RecordedDevices:
    """All devices of a file: one snapshot for each device with events or segments.

    ``pinned_bytes`` is page-locked host memory at the end, which PyTorch 2.9 and later record.
    ``pinned_peak_bytes`` is its peak in the recording. ``annotations`` are ranges that PyTorch's
    own optimizers and data loaders mark.
    """

    snapshots: tuple[Snapshot, ...]
    pinned_bytes: int
    pinned_peak_bytes: int
    annotations: tuple[Annotation, ...]

    def devices(self, device: int | None = None) -> tuple[Snapshot, ...]:
        """Return the chosen devices: those out of memory first, then those with most events."""
        chosen = [each for each in self.snapshots if device in (None, each.device)]
        if not chosen:
            there = ", ".join(str(each.device) for each in self.snapshots)
            raise SnapshotError(f"the recording has no device {device}, only {there}")
        failed = {each.device for each in chosen if any(e.action == "oom" for e in each.events)}
        chosen.sort(key=lambda each: (each.device not in failed, -len(each.events)))
        return tuple(chosen)


def read_recording(path: Path, deadline: Deadline | None = None) -> RecordedDevices:
    """Read all devices of the recording at ``path``."""
    deadline = Deadline() if deadline is None else deadline
    try:
        return _recording(read_bytes(path), deadline)
    except SnapshotError as error:
        raise SnapshotError(f"{str(path)!r}: {error}") from None


def _recording(data: bytearray, deadline: Deadline) -> RecordedDevices:
    raw = load_builtins(data, deadline=deadline)
    if isinstance(raw, list) and all(isinstance(each, dict) for each in raw):
        raise SnapshotError("the snapshot has no trace; record one with PyTorch 2.1 or later")
    if not isinstance(raw, dict) or not {"device_traces", "segments"} & set(raw):
        raise SnapshotError("the file is a pickle, but no memory snapshot")
    whole = _read(raw, _Whole)
    if not whole.device_traces:
        raise SnapshotError("the snapshot has no trace of any device")
    flags = whole.allocator_settings
    settings = flags.get("PYTORCH_CUDA_ALLOC_CONF", flags.get("PYTORCH_ALLOC_CONF", ""))
    segments: dict[int, list[RecordedSegment]] = {}
    for each in whole.segments:
        each.stream &= STREAM_MASK
        segments.setdefault(each.device, []).append(each)
    for number, trace in enumerate(whole.device_traces):
        if trace:
            segments.setdefault(number, [])
    # A recording of nothing is one of an idle device 0.
    devices = sorted(number for number in segments if number < len(whole.device_traces)) or [0]
    text = printable(settings) if isinstance(settings, str) else ""
    owners = dict(enumerate(_valid(whole.harness, KnownOwners)))
    snapshots = []
    for device in devices:
        in_order = tuple(sorted(segments.get(device, ()), key=lambda each: each.address))
        skipped: Counter[str] = Counter()
        found = _events(whole.device_traces[device], skipped, deadline)
        events = number_pools(found, in_order)
        snapshots.append(
            Snapshot(
                device=device,
                events=events,
                segments=in_order,
                settings=text,
                flags=flags,
                owners=owners.get(device),
                skipped=skipped,
            )
        )
    pinned = sum(each.total_size for each in _valid(whole.host_segments, _Pinned))
    return RecordedDevices(
        snapshots=tuple(snapshots),
        pinned_bytes=pinned,
        pinned_peak_bytes=_pinned_peak(pinned, whole.host_traces),
        annotations=tuple(_valid(whole.external_annotations, Annotation)),
    )


def _pinned_peak(at_end: int, trace: Any) -> int:
    """Return the peak of the pinned memory; ``at_end`` is the pinned memory after ``trace``."""
    size = most = at_end
    for event in [*_valid(trace, _HostEvent)][::-1]:
        size -= event.size * ((event.action in TAKING) - (event.action in GIVING))
        most = max(most, size)
    return most


def _events(trace: list[Any], skipped: Counter[str], deadline: Deadline) -> tuple[TraceEvent, ...]:
    """Convert a trace to events, and count the skipped entries by their action.

    To save memory, the list ``trace`` is emptied.
    """
    allocated: dict[int, int] = {}
    stacks: dict[tuple[int, ...], tuple[Any, Stack]] = {}
    events: list[TraceEvent] = []
    total = 0
    trace.reverse()
    while trace:
        if len(trace) % EVENTS_BETWEEN_CHECKS == 0:
            deadline.check("reading the recording")
        raw = _read(entry := trace.pop(), _Event)
        if raw.action == _ANNOTATE:
            if raw.addr in allocated:
                at = allocated[raw.addr]
                events[at] = events[at].labelled(raw.user_metadata)
        elif raw.action not in ACTIONS:
            skipped[printable(raw.action)[:40]] += 1
        else:
            if raw.action == "alloc":
                allocated[raw.addr] = len(events)
            event = _event(raw, stacks)
            total += event.size_bytes
            events.append(event)
        # PyTorch writes a dict for each event; one dict used many times would make a long trace
        # of a short file. Emptied, it cannot be used again.
        entry.clear()
    if total > _ALL_TOGETHER:
        raise SnapshotError("the recorded sizes add up to more than any GPU could hold")
    return tuple(events)


class _Event(msgspec.Struct):
    """Recorded entry of a trace; ``time_us`` and ``frames`` may have any type."""

    action: str
    addr: Address = 0
    size: Size = 0
    stream: int = 0
    pool_id: PoolId | None = None
    time_us: Any = None
    frames: Any = None
    device_free: Size = 0
    user_metadata: Any = None


class _HostEvent(msgspec.Struct):
    action: str
    size: Size = 0


class _Pinned(msgspec.Struct):
    total_size: Size


class _Whole(msgspec.Struct):
    device_traces: list[list[Any]]
    segments: list[RecordedSegment]
    allocator_settings: dict[str, Any] = {}
    host_segments: Any = ()
    host_traces: Any = ()
    external_annotations: Any = ()
    harness: Any = ()


_Kind = TypeVar("_Kind", bound=msgspec.Struct)


def _read(entry: Any, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(entry, kind)
    except msgspec.ValidationError as error:
        raise SnapshotError(f"not a CUDA memory snapshot: {printable(str(error))}") from None


def _valid(entries: Any, kind: type[_Kind]) -> Iterator[_Kind]:
    """Yield the entries that can be converted to ``kind``; skip the other entries."""
    for entry in entries if isinstance(entries, list) else ():
        try:
            yield msgspec.convert(entry, kind)
        except msgspec.ValidationError:
            continue


def _event(raw: _Event, stacks: dict[tuple[int, ...], tuple[Any, Stack]]) -> TraceEvent:
    key = tuple(map(id, raw.frames[:FRAMES_READ])) if isinstance(raw.frames, list) else ()
    known = stacks.get(key)
    if known is None:
        # The frames are kept next to their text, so that no others get their identities.
        known = stacks[key] = (raw.frames, stack_of(raw.frames))
    is_time = isinstance(raw.time_us, int) and 0 <= raw.time_us < ADDRESS_LIMIT
    event = TraceEvent(
        action=raw.action,
        address=raw.device_free if raw.action == "oom" else raw.addr,
        size_bytes=raw.size,
        stream=raw.stream & STREAM_MASK,
        pool=raw.pool_id,
        time_us=raw.time_us if is_time else None,
        stack=known[1],
    )
    return event.labelled(raw.user_metadata)

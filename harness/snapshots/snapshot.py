"""A memory snapshot as ``torch.cuda.memory._dump_snapshot`` writes it, checked and typed.

The format: ``torch/cuda/_memory_viz.py`` and ``torch/csrc/cuda/memory_snapshot.cpp``,
PyTorch 2.1 to 2.13. Later versions add keys (``pool_id``, ``compile_context``); those that
are missing have the value they had before they existed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.snapshots.unpickler import SnapshotError, load_builtins

SEGMENT_ACTIONS = frozenset({"segment_alloc", "segment_free", "segment_map", "segment_unmap"})
_ACTIONS = SEGMENT_ACTIONS | {"alloc", "free_requested", "free_completed", "oom", "snapshot"}
_STATES = frozenset({"active_allocated", "active_pending_free", "active_awaiting_free", "inactive"})
_ADDRESSES = 1 << 62
_LARGEST = 1 << 44
_ALL_TOGETHER = 1 << 56


class TraceEvent(NamedTuple):
    """One entry of a device's trace; ``place`` is the innermost Python frame, if recorded."""

    action: str
    address: int
    size_bytes: int
    stream: int
    private: bool
    time_us: int | None
    place: str | None


class RecordedBlock(NamedTuple):
    """A block of a segment when the snapshot was taken; ``requested`` is 0 where free."""

    address: int
    size_bytes: int
    requested_bytes: int
    state: str


@dataclass(frozen=True, kw_only=True)
class RecordedSegment:
    """A segment, or a mapped stretch of an expandable one, when the snapshot was taken."""

    address: int
    size_bytes: int
    stream: int
    is_large: bool
    is_expandable: bool
    private: bool
    blocks: tuple[RecordedBlock, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What one device's allocator recorded.

    ``settings`` is what ``PYTORCH_CUDA_ALLOC_CONF`` said; ``flags`` are the settings as the
    allocator understood them (both empty before PyTorch 2.3).
    """

    device: int
    events: tuple[TraceEvent, ...]
    segments: tuple[RecordedSegment, ...]
    settings: str
    flags: Mapping[str, Any]


def read_snapshot(path: Path, device: int | None = None) -> Snapshot:
    """Read the snapshot at ``path``; of ``device``, or of the one with most events.

    Raises:
        SnapshotError: one line: no snapshot, a damaged one, or one with code in it.

    """
    raw = load_builtins(path)
    if isinstance(raw, list):
        raise SnapshotError("the snapshot has no trace; record one with PyTorch 2.1 or later")
    traces = _get(raw, "device_traces", list)
    if not traces or not all(isinstance(trace, list) for trace in traces):
        raise SnapshotError("the snapshot has no trace of any device")
    if device is None:
        device = max(range(len(traces)), key=lambda index: len(traces[index]))
    if not 0 <= device < len(traces):
        raise SnapshotError(f"the snapshot has no device {device}, only 0 to {len(traces) - 1}")
    flags = raw.get("allocator_settings", {})
    if not isinstance(flags, dict):
        raise SnapshotError("the snapshot's allocator_settings is no dict")
    settings = flags.get("PYTORCH_CUDA_ALLOC_CONF", flags.get("PYTORCH_ALLOC_CONF", ""))
    segments = (_segment(entry) for entry in _get(raw, "segments", list))
    on_device = (segment for number, segment in segments if number == device)
    events = tuple(_event(entry) for entry in traces[device])
    if sum(event.size_bytes for event in events) > _ALL_TOGETHER:
        raise SnapshotError("the recorded sizes add up to more than any card could hold")
    return Snapshot(
        device=device,
        events=events,
        segments=tuple(sorted(on_device, key=lambda segment: segment.address)),
        settings=_printable(settings) if isinstance(settings, str) else "",
        flags=flags,
    )


def _get(entry: Any, key: str, kind: type, default: Any = None) -> Any:
    if not isinstance(entry, dict):
        raise SnapshotError("the file is a pickle, but no memory snapshot")
    value = entry.get(key, default)
    if not isinstance(value, kind):
        raise SnapshotError(f"the snapshot has no fit {key!r}")
    return value


def _number(entry: Any, key: str, default: int | None = None) -> int:
    value = _get(entry, key, int, default)
    assert isinstance(value, int)
    if not 0 <= value < (_LARGEST if "size" in key else _ADDRESSES):
        raise SnapshotError(f"the snapshot has {key!r} out of range")
    return value


def _is_private(entry: dict[str, Any], key: str) -> bool:
    return entry.get(key, (0, 0)) not in ((0, 0), [0, 0])


def _event(entry: Any) -> TraceEvent:
    action = _get(entry, "action", str)
    if action not in _ACTIONS:
        raise SnapshotError(f"the snapshot has an unknown event {action[:40]!r}")
    return TraceEvent(
        action=action,
        address=_number(entry, "device_free" if action == "oom" else "addr", 0),
        size_bytes=_number(entry, "size", 0),
        stream=_number(entry, "stream", 0),
        private=_is_private(entry, "pool_id"),
        time_us=_number(entry, "time_us") if "time_us" in entry else None,
        place=_place(entry.get("frames")),
    )


def _place(frames: Any) -> str | None:
    """Return the innermost Python frame as ``function (file:line)``, the file by its name."""
    if not isinstance(frames, list):
        return None
    for frame in frames:
        name = _get(frame, "filename", str, "")
        if name.endswith(".py"):
            base = name.replace("\\", "/").rsplit("/", 1)[-1]
            function = _get(frame, "name", str, "?")
            return _printable(f"{function} ({base}:{_number(frame, 'line', 0)})")
    return None


def _printable(text: str) -> str:
    """Return text that cannot move a terminal's cursor, of a length that fits a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def _segment(entry: Any) -> tuple[int, RecordedSegment]:
    address = _number(entry, "address")
    kind = _get(entry, "segment_type", str)
    blocks = []
    position = address
    for raw in _get(entry, "blocks", list):
        size = _number(raw, "size")
        state = _get(raw, "state", str)
        if state not in _STATES or size == 0:
            raise SnapshotError(f"the segment at {address:#x} has a block that makes no sense")
        requested = 0 if state == "inactive" else _number(raw, "requested_size", size)
        blocks.append(RecordedBlock(position, size, requested, state))
        position += size
    if position - address != _number(entry, "total_size"):
        raise SnapshotError(f"the blocks of the segment at {address:#x} do not fill it")
    return _number(entry, "device", 0), RecordedSegment(
        address=address,
        size_bytes=position - address,
        stream=_number(entry, "stream", 0),
        is_large=kind == "large",
        is_expandable=_get(entry, "is_expandable", bool, False),
        private=_is_private(entry, "segment_pool_id"),
        blocks=tuple(blocks),
    )

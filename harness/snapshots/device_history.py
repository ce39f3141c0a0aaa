"""Events of one device in a recording, and the blocks alive after each event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from harness.schema.growth import Growth
from harness.schema.kept_by_line import find_growth
from harness.schema.lifetimes import Lifetimes, alive_after, bytes_alive, find_lifetimes
from harness.schema.units import format_bytes
from harness.snapshots.initial_state import Origin, find_origin, recorded_settings
from harness.snapshots.pools import notes_on_pools
from harness.snapshots.snapshot import Annotation, RecordedDevices, Snapshot
from harness.snapshots.trace_event import TraceEvent, own_line, reserved_change

_STEP = "Optimizer.step#"


@dataclass(frozen=True, kw_only=True)
class DeviceHistory:
    """Events of one device, and the blocks that were allocated before the recording.

    Attributes:
        settings: the allocator's settings as recorded.
        steps: start and end of each optimizer step, which PyTorch 2.6 and later record.
        notes: sentences about missing facts and about assumptions.
    """

    snapshot: Snapshot
    settings: str
    origin: Origin
    steps: tuple[Annotation, ...]
    notes: tuple[str, ...]

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """Recorded events; the position of an event is its index."""
        return self.snapshot.events

    @cached_property
    def log(self) -> tuple[TraceEvent, ...]:
        """Allocations from before the recording, followed by the events."""
        return *self.origin.live.values(), *self.events

    @cached_property
    def lifetimes(self) -> Lifetimes:
        """Lifetimes of all blocks: indices in ``log`` of each block's allocation and free."""
        return find_lifetimes((event.action, event.address) for event in self.log)

    def bytes_alive(self, lifetimes: Lifetimes) -> list[int]:
        """Return the live bytes of the given blocks before the first and after each event."""
        sizes = [event.size_bytes for event in self.log]
        return bytes_alive(lifetimes, sizes)[len(self.origin.live) :]

    @cached_property
    def alive_bytes(self) -> list[int]:
        """Live bytes of all blocks, before the first event and after each event."""
        return self.bytes_alive(self.lifetimes)

    @cached_property
    def reserved_bytes(self) -> list[int]:
        """Reserved bytes before the first event and after each event."""
        changes = map(reserved_change, self.events)
        return list(accumulate(changes, initial=self.origin.reserved_bytes))

    def alive_after(self, position: int) -> list[int]:
        """Return indices in ``log`` of blocks alive after event ``position``; -1 is the start."""
        return alive_after(self.lifetimes, len(self.origin.live) + position)

    def growth(self, ends: Sequence[int]) -> Growth:
        """Return the growth of memory over the steps that end at the event positions ``ends``."""
        before = len(self.origin.live)
        return find_growth(
            self.lifetimes,
            [event.size_bytes for event in self.log],
            [before + end for end in ends],
            lambda begin: own_line(self.log[begin]),
        )


def device_histories(
    recording: RecordedDevices, device: int | None = None
) -> Iterator[DeviceHistory]:
    """Yield the history of each chosen device, beginning with devices that ran out of memory."""
    for snapshot in recording.devices(device):
        settings, assumed = recorded_settings(snapshot)
        pools = notes_on_pools(snapshot.events, snapshot.segments)
        yield DeviceHistory(
            snapshot=snapshot,
            settings=settings,
            origin=find_origin(snapshot, snapshot.events),
            steps=tuple(
                each
                for each in recording.annotations
                if each.device == snapshot.device and each.name.startswith(_STEP)
            ),
            notes=(*_notes_on_file(recording), *_skipped(snapshot), *assumed, *pools),
        )


def _notes_on_file(recording: RecordedDevices) -> Iterator[str]:
    """Yield notes on the devices of a recording, and on its pinned host memory."""
    if len(recording.snapshots) > 1:
        devices = (f"{each.device} ({len(each.events):,} events)" for each in recording.snapshots)
        yield f"devices in the recording: {', '.join(devices)}"
    pinned, peak = recording.pinned_bytes, recording.pinned_peak_bytes
    if peak:
        most = f", {format_bytes(peak)} at its peak" if peak > pinned else ""
        yield f"{format_bytes(pinned)} of pinned host memory{most}: this is not GPU memory"


def _skipped(snapshot: Snapshot) -> Iterator[str]:
    for action, count in snapshot.skipped.items():
        yield f"{count:,} entries of the unknown action {action!r} are left out"

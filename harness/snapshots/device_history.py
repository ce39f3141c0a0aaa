"""One device of a recording from its derived beginning on: what was there at each moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from harness.allocator import AllocatorConfig
from harness.schema.units import format_bytes
from harness.snapshots.initial_state import Origin, find_origin, recorded_config
from harness.snapshots.lifetimes import Block, bytes_alive, find_blocks
from harness.snapshots.pools import notes_on_pools
from harness.snapshots.snapshot import Annotation, Recording, Snapshot
from harness.snapshots.trace_event import TraceEvent, reserved_change

_STEP = "Optimizer.step#"


@dataclass(frozen=True, kw_only=True)
class DeviceHistory:
    """The events of one device, with what was there before them.

    Attributes:
        steps: where optimizer steps begin and end, as PyTorch 2.6 and later mark them.
        notes: what the recording does not say, and what was assumed.
    """

    snapshot: Snapshot
    config: AllocatorConfig
    origin: Origin
    steps: tuple[Annotation, ...]
    notes: tuple[str, ...]

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """The events, whose positions count from 0."""
        return self.snapshot.events

    @cached_property
    def blocks(self) -> list[Block]:
        """Every block, those from before the recording first."""
        before = ((each.address, each.size_bytes) for each in self.origin.live.values())
        return find_blocks((event[:3] for event in self.events), before)

    @cached_property
    def alive_bytes(self) -> list[int]:
        """Bytes alive before the first event, then after each one."""
        return bytes_alive(self.blocks, len(self.events))

    @cached_property
    def reserved_bytes(self) -> list[int]:
        """Bytes reserved before the first event, then after each one."""
        changes = map(reserved_change, self.events)
        return list(accumulate(changes, initial=self.origin.reserved_bytes))

    def allocation(self, block: Block) -> TraceEvent:
        """Return the event that allocates a block; made up for one from before the recording."""
        return self.origin.live[block.address] if block.begin < 0 else self.events[block.begin]

    def alive_after(self, position: int) -> list[TraceEvent]:
        """Return the allocation of each block alive after an event; -1 is before the first."""
        alive = (block for block in self.blocks if block.is_alive_after(position))
        return [self.allocation(block) for block in alive]


def device_histories(recording: Recording, device: int | None = None) -> Iterator[DeviceHistory]:
    """Yield the history of one device, or of all: out of memory first."""
    for snapshot in recording.devices(device):
        config, assumed = recorded_config(snapshot)
        pools = notes_on_pools(snapshot.events, snapshot.segments)
        yield DeviceHistory(
            snapshot=snapshot,
            config=config,
            origin=find_origin(snapshot, snapshot.events, config),
            steps=tuple(
                each
                for each in recording.annotations
                if each.device == snapshot.device and each.name.startswith(_STEP)
            ),
            notes=(*_notes_on_file(recording), *assumed, *pools),
        )


def _notes_on_file(recording: Recording) -> Iterator[str]:
    """Yield the devices of a recording of several, and how much host memory is pinned in it."""
    if len(recording.snapshots) > 1:
        devices = (f"{each.device} ({len(each.events):,} events)" for each in recording.snapshots)
        yield f"devices in the recording: {', '.join(devices)}"
    if recording.pinned_bytes:
        yield f"{format_bytes(recording.pinned_bytes)} of pinned host memory is not GPU memory"

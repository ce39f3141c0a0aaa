"""Replays of a recording: its work under the recorded settings, and under others."""

from dataclasses import dataclass, replace
from pathlib import Path

from harness.snapshots.device_history import DeviceHistory, device_histories
from harness.snapshots.file_bytes import Deadline
from harness.snapshots.initial_state import notes_on_origin
from harness.snapshots.snapshot import read_recording
from harness.snapshots.what_if import WhatIf, as_recorded, find_work, what_ifs


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A device's history, the answers of PyTorch's allocator, and notes on both."""

    history: DeviceHistory
    what_ifs: tuple[WhatIf, ...]
    notes: tuple[str, ...]

    @property
    def recorded_peak_reserved_bytes(self) -> int:
        """The most that was reserved in the recording."""
        return max(self.history.reserved_bytes)

    @property
    def peak_alive_bytes(self) -> int:
        """The most that was alive in the recording."""
        return max(self.history.alive_bytes)


def replay_devices(
    path: Path, *, settings: str | None = None, memory_bytes: int | None = None
) -> tuple[Replay, ...]:
    """Replay every device of a recording as it was, and under other settings.

    Args:
        path: the recording.
        settings: the other settings; expandable segments if it is None.
        memory_bytes: the GPU's memory in both; without end if it is None.
    """
    deadline = Deadline()
    found = []
    for history in device_histories(read_recording(path, deadline)):
        plain = as_recorded(history, memory_bytes, find_work(history))
        other = settings or ",".join(filter(None, [plain.settings, "expandable_segments:True"]))
        cases = [plain, replace(plain, name=other, settings=other, is_asked=bool(settings))]
        answers, refused = what_ifs(cases, deadline)
        notes = (*history.notes, *notes_on_origin(history.origin), *refused)
        found.append(Replay(history=history, what_ifs=answers, notes=notes))
    return tuple(found)

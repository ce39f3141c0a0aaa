"""Compares the live memory of two recordings, by category and by line of the user's code.

The recordings are aligned by step: the memory is compared at its peak in the last step that both
recordings have. Without recorded steps, the memory is compared at the peak of each recording.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.plots.sheet import Sheet, ShownTable
from harness.schema.block_categories import CATEGORY_WORDS
from harness.schema.units import format_bytes
from harness.snapshots.categories import categories
from harness.snapshots.device_history import DeviceHistory, device_histories
from harness.snapshots.failed_request import step_ends
from harness.snapshots.file_bytes import Deadline, reading_a_recording
from harness.snapshots.snapshot import read_recording
from harness.snapshots.trace_event import own_line

_MOST_ROWS = 16


@dataclass(frozen=True, kw_only=True)
class GrownLine:
    """Live bytes of one category and line of code in the first and in the second recording."""

    category: str
    line: str
    before_bytes: int
    after_bytes: int

    @property
    def grown_bytes(self) -> int:
        """Bytes that the second recording holds more; negative if it holds less."""
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True, kw_only=True)
class RecordingChange:
    """Difference of two recordings at the same step; ``step`` is None if no step is recorded."""

    step: int | None
    before_bytes: int
    after_bytes: int
    changes: tuple[GrownLine, ...]

    @property
    def verdict(self) -> Literal["equal", "grew", "shrank"]:
        """The word ``grew``, ``shrank`` or ``equal``."""
        grown = self.after_bytes - self.before_bytes
        return "equal" if not grown else "grew" if grown > 0 else "shrank"


def compare_recordings(
    first: Path, second: Path, *, device: int | None = None, deadline: Deadline | None = None
) -> RecordingChange:
    """Compare the first device of two recordings, or the given device.

    Raises:
        SnapshotError: a file is not a recording, or the deadline has passed.
    """
    histories: list[DeviceHistory] = []
    for path in (first, second):
        with reading_a_recording(path, "compare"):
            histories.append(next(device_histories(read_recording(path, deadline), device)))
    ends = [step_ends(history, len(history.events)) for history in histories]
    step = min(map(len, ends)) or None
    positions = [_peak(history, end[:step]) for history, end in zip(histories, ends, strict=True)]
    before, after = (_held(*each) for each in zip(histories, positions, strict=True))
    changes = [
        GrownLine(category=key[0], line=key[1], before_bytes=before[key], after_bytes=after[key])
        for key in {**before, **after}
        if before[key] != after[key]
    ]
    return RecordingChange(
        step=step,
        before_bytes=before.total(),
        after_bytes=after.total(),
        changes=tuple(sorted(changes, key=lambda one: (-abs(one.grown_bytes), one.line))),
    )


def _peak(history: DeviceHistory, ends: list[int]) -> int:
    """Return the event with most live bytes in the last of the steps, or in the whole recording."""
    begin = ends[-2] if len(ends) > 1 else 0
    events = range(begin, ends[-1] if ends else len(history.events))
    return max(events, key=lambda at: history.alive_bytes[at + 1], default=-1)


def _held(history: DeviceHistory, position: int) -> Counter[tuple[str, str]]:
    category_at = categories(history)
    held: Counter[tuple[str, str]] = Counter()
    for begin in history.alive_after(position):
        event = history.log[begin]
        held[CATEGORY_WORDS[category_at(begin)], own_line(event)] += event.size_bytes
    return held


def change_sheet(change: RecordingChange) -> Sheet:
    """Return the sheet of a comparison, with what changed most at the top."""
    size = format_bytes
    grown = change.after_bytes - change.before_bytes
    where = "at the peaks" if change.step is None else f"at the peak of step {change.step}"
    said = f"the second recording holds {size(abs(grown))} {'more' if grown > 0 else 'less'}"
    said = said if grown else "both recordings hold the same"
    sums: Counter[str] = Counter()
    for one in change.changes:
        sums[one.category] += one.grown_bytes
    kinds = [(_signed(value), name) for name, value in sums.most_common() if value]
    rows = [
        (_signed(one.grown_bytes), size(one.before_bytes), size(one.after_bytes), one.category,
         one.line)
        for one in change.changes[:_MOST_ROWS]
    ]  # fmt: skip
    if (more := len(change.changes) - _MOST_ROWS) > 0:
        rows.append(("", "", "", "", f"... and {more} more; --json lists all"))
    return Sheet(
        title="Two recordings compared",
        verdict=[f"{said}: {size(change.before_bytes)}, then {size(change.after_bytes)}, {where}"],
        parts=[
            *[ShownTable(title="By category", heads=(">", ""), rows=kinds, indent=2)] * bool(kinds),
            *[ShownTable(heads=(">change", ">first", ">second", "category", "line"), rows=rows)]
            * bool(rows),
        ],
    )  # fmt: skip


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '-'}{format_bytes(abs(size))}"

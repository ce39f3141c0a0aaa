"""A replay in words, for a terminal."""

from collections.abc import Iterator

from harness.schema.units import format_bytes
from harness.snapshots.follower import Agreement
from harness.snapshots.moments import Peak
from harness.snapshots.replay import Replay
from harness.snapshots.what_if import WhatIf

_GROUPS_SHOWN = 12


def replay_text(replay: Replay) -> str:
    """Return the replay as lines of text."""
    return "\n".join(_lines(replay)) + "\n"


def _lines(replay: Replay) -> Iterator[str]:
    settings = replay.settings or "default settings"
    yield f"device {replay.device}: {replay.events} events, {settings}"
    for note in replay.notes:
        yield f"note: {note}"
    yield ""
    if replay.agreement is not None:
        yield from _agreement(replay.agreement)
        yield ""
    yield from _peak(replay.peak)
    yield ""
    yield "what if"
    for case in replay.what_ifs:
        yield from _what_if(case)


def _agreement(agreement: Agreement) -> Iterator[str]:
    yield "model against recording" + (": no difference" if agreement.is_complete() else "")
    for name, matched, total in (
        ("segment events", agreement.segment_events_matched, agreement.segment_events),
        ("addresses", agreement.allocations_matched, agreement.allocations),
        ("blocks at the end", agreement.blocks_matched, agreement.blocks),
    ):
        yield f"  {name:<20}{matched} of {total} equal"
    yield (
        f"  {'peak reserved':<20}{_exact(agreement.peak_reserved_bytes)}, "
        f"recorded {_exact(agreement.recorded_peak_reserved_bytes)}"
    )
    yield f"  {'peak allocated':<20}{_exact(agreement.peak_allocated_bytes)}"
    yield (
        f"  {'unused at the end':<20}{_percent(agreement.fragmentation)} of reserved, "
        f"recorded {_percent(agreement.recorded_fragmentation)}"
    )
    for sentence in agreement.differences:
        yield f"  differs: {sentence}"


def _peak(peak: Peak) -> Iterator[str]:
    when = "" if peak.seconds is None else f", {peak.seconds:.3f} s after the beginning"
    where = "at the beginning" if peak.position < 0 else f"at event {peak.position}"
    yield f"alive at the peak: {_exact(peak.requested_bytes)} requested, {where}{when}"
    for group in peak.groups[:_GROUPS_SHOWN]:
        yield (
            f"  {format_bytes(group.total_bytes()):>10}  {group.count:>5} x "
            f"{group.size_bytes:>12} B  {group.place}"
        )
    rest = peak.groups[_GROUPS_SHOWN:]
    if rest:
        size = sum(group.total_bytes() for group in rest)
        yield f"  {format_bytes(size):>10}  {sum(g.count for g in rest):>5} others"


def _what_if(case: WhatIf) -> Iterator[str]:
    total = case.config.total_bytes
    gpu = "" if total is None else f" on {format_bytes(total)}: {case.verdict()}"
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


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{100 * share:.1f}%"

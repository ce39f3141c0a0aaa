"""Both starts of a script that was resumed, side by side, as text."""

from collections import Counter
from collections.abc import Iterator

from harness.dry_runs.dry_run_report import Device, DryRunReport, Moment
from harness.schema.block_categories import BlockCategory
from harness.schema.units import format_bytes

MOST_PLACES = 5
STARTS = ("first start", "resumed")


def starts_lines(report: DryRunReport) -> Iterator[str]:
    """Yield the answer of both starts, and what the second start holds in addition."""
    if not report.starts:
        return
    for name, start in zip(STARTS, report.starts, strict=True):
        peaks = start.cuda
        sizes = [
            f"{what} {'not known' if size is None else f'{format_bytes(size)} ({size:,} B)'}"
            for what, size in (
                ("requested", peaks.requested_peak_bytes),
                ("reserved", peaks.reserved_peak_bytes),
            )
        ]
        verdict = start.outcome if start.fit is None else f"{start.outcome}, {start.fit}"
        yield f"  {name:<12}{verdict}: {', '.join(sizes)}"
    yield from _phases(report.starts)
    more = list(_more_when_resumed(report.starts))[:MOST_PLACES]
    if more:
        yield "Alive at its worst moment when resumed, and not at that of the first start:"
    for size, category, place in more:
        yield f"    {format_bytes(size):>10}  {category:<16}{place}"
    yield ""


def _phases(starts: tuple[DryRunReport, ...]) -> Iterator[str]:
    """Yield most bytes requested in each phase of both starts."""
    devices = [_busiest(start) for start in starts]
    most = [{} if device is None else device.phases for device in devices]
    names = dict.fromkeys(name for one in most for name in one)
    if names:
        yield f"Most bytes requested in each phase: {STARTS[0]:>14}{STARTS[1]:>12}"
    for name in names:
        sizes = ("-" if name not in one else format_bytes(one[name]) for one in most)
        yield f"    {name:<32}" + "".join(f"{size:>12}" for size in sizes)


def _more_when_resumed(
    starts: tuple[DryRunReport, ...],
) -> Iterator[tuple[int, BlockCategory, str]]:
    """Yield bytes, category and line of what the second start's worst moment has in addition.

    If another line holds the same bytes, such as a loaded optimizer state, this is not more.
    """
    moments = [_worst_moment(start) for start in starts]
    totals = [Counter({} if one is None else one.categories) for one in moments]
    grown = totals[1] - totals[0]
    before, then = map(_places, moments)
    for (place, category), size in (then - before).most_common():
        if grown[category] > 0:
            yield min(size, grown[category]), category, place
            grown[category] -= size


def _worst_moment(start: DryRunReport) -> Moment | None:
    if start.out_of_memory:
        return start.out_of_memory[0].at
    device = _busiest(start)
    return None if device is None else device.peak


def _busiest(start: DryRunReport) -> Device | None:
    return max(start.devices, key=lambda one: one.peaks.reserved_peak_bytes or 0, default=None)


def _places(moment: Moment | None) -> Counter[tuple[str, BlockCategory]]:
    groups = () if moment is None else moment.groups
    return Counter({(one.place, one.category): one.requested_bytes for one in groups})

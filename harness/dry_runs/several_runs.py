"""Builds the parts of the text report about starts, tests, notebook cells, ranks and processes."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from harness.dry_runs.dry_run_report import Device, DryRunReport, Moment
from harness.plots.sheet import Part, ShownTable
from harness.schema.block_categories import BlockCategory
from harness.schema.units import format_bytes

MOST_PLACES = 5
MOST_PROCESSES = 16
MOST_TESTS = 40
MOST_CELLS, MOST_CELL_TEXT = 40, 60
MOST_TEXT = 80
STARTS = ("first start", "resumed")


def starts_parts(report: DryRunReport) -> Iterator[Part]:
    """Yield the results of a script's two starts, and the second start's additional memory."""
    if not report.starts:
        return
    rows = []
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
        rows.append((name, f"{verdict}: {', '.join(sizes)}"))
    yield ShownTable(heads=("", ""), rows=rows, indent=2)
    yield _phases(report.starts)
    title = "Alive at its worst moment when resumed, and not at that of the first start"
    more = [
        (format_bytes(size), category.replace("_", " "), place)
        for size, category, place in _more_when_resumed(report.starts)
    ]
    yield ShownTable(title=title, heads=(">", "", ""), rows=more[:MOST_PLACES], indent=4)
    yield ""


def _phases(starts: tuple[DryRunReport, ...]) -> ShownTable:
    """Return the peaks of requested bytes by phase, for the script's first and second start."""
    devices = [_busiest(start) for start in starts]
    most = [{} if device is None else device.phases for device in devices]
    names = dict.fromkeys(name for one in most for name in one)
    rows = [
        (name, *("-" if name not in one else format_bytes(one[name]) for one in most))
        for name in names
    ]
    heads = ("phase", *(f">{name}" for name in STARTS))
    return ShownTable(title="Most bytes requested in each phase", heads=heads, rows=rows, indent=4)


def _more_when_resumed(
    starts: tuple[DryRunReport, ...],
) -> Iterator[tuple[int, BlockCategory, str]]:
    """Yield bytes, category and line of memory that only the second start has at its peak.

    Memory that the second start merely allocates at another line is not included.
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


def tests_parts(report: DryRunReport) -> Iterator[Part]:
    """Yield the outcome and the peak of requested bytes of each test."""
    if not report.tests:
        return
    counts = Counter(one.outcome for one in report.tests)
    ended = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
    rows = list[tuple[str, ...]]()
    worst = sorted(report.tests, key=lambda one: one.outcome in ("passed", "skipped"))
    for one in worst[:MOST_TESTS]:
        size = "-" if one.requested_peak_bytes is None else format_bytes(one.requested_peak_bytes)
        rows.append((one.outcome, size, f"{one.seconds:.1f} s", one.name))
        if one.why:
            rows.append(("", "", "", f"    {short(one.why)}"))
    if (more := len(report.tests) - MOST_TESTS) > 0:
        rows.append(("", "", "", f"... and {more:,} more"))
    title = f"Tests ({len(report.tests):,}), {ended}"
    yield ShownTable(title=title, heads=("", ">", ">", ""), rows=rows, indent=2)
    yield ""


def cells_parts(report: DryRunReport) -> Iterator[Part]:
    """Yield each notebook cell's peak of requested bytes, and the live bytes after the cell."""
    if not report.cells:
        return
    rows = []
    for cell in report.cells[-MOST_CELLS:]:
        peak = "-" if cell.requested_peak_bytes is None else format_bytes(cell.requested_peak_bytes)
        failed = "" if cell.ended == "ok" else "error: "
        alive = format_bytes(cell.alive_bytes)
        rows.append((f"{cell.number}", peak, alive, f"{failed}{cell.text[:MOST_CELL_TEXT]}"))
    heads = (">cell", ">requested", ">alive after", "")
    title = "Cells, with the most bytes requested in each"
    yield ShownTable(title=title, heads=heads, rows=rows, indent=2)
    if report.freed:
        alive = format_bytes(report.cells[-1].alive_bytes)
        yield ShownTable(
            title=f"What frees the {alive} after the last one, one after another",
            heads=(">", ""),
            rows=[(format_bytes(one.requested_bytes), one.what) for one in report.freed],
            indent=6,
        )
    yield ""


def ranks_parts(report: DryRunReport) -> Iterator[str]:
    """Yield the peaks of each rank; consecutive ranks with equal peaks share one line."""
    if report.ranks:
        yield f"Ranks ({len(report.ranks)}, each in a run of its own):"
    for said, alike in groupby(report.ranks, key=_said_of_rank):
        first, *more = [one.rank for one in alike]
        yield f"  {f'ranks {first} to {more[-1]}' if more else f'rank {first}'}: {said}"


def _said_of_rank(one: DryRunReport) -> str:
    peaks = one.highest
    sizes = [
        "not known" if size is None else format_bytes(size)
        for size in (peaks.allocated_peak_bytes, peaks.reserved_peak_bytes)
    ]
    most = "at most " if one.moves else ""
    verdict = one.outcome if one.fit is None else f"{one.outcome}, {one.fit}"
    why = f"; {short(one.evidence)}" if one.evidence else ""
    return f"{most}allocated {sizes[0]}, reserved {sizes[1]}: {verdict}{why}"


def processes_parts(report: DryRunReport) -> Iterator[str]:
    """Yield the processes that used the GPUs, and the bytes that they used at the same time."""
    if not report.processes:
        return
    yield f"Processes on the GPUs ({len(report.processes)}, the largest first):"
    for one in report.processes[:MOST_PROCESSES]:
        gpus = ", ".join(map(str, one.gpus)) or "-"
        sizes = [one.cuda.allocated_peak_bytes, one.cuda.reserved_peak_bytes]
        allocated, reserved = (
            "not known" if size is None else format_bytes(size) for size in sizes
        )
        lost = "; no report of its own (was it killed?)" if one.lost else ""
        yield (
            f"  {one.name} (process {one.pid}) on GPU {gpus}: allocated {allocated}, reserved"
            f" {reserved}: {one.fit}{lost}"
        )
    if (more := len(report.processes) - MOST_PROCESSES) > 0:
        yield f"  ... and {more:,} more"
    for gpu in report.shared:
        if gpu.processes > 1:
            yield (
                f"GPU {gpu.index}: {gpu.processes} processes held {format_bytes(gpu.held_bytes)} at"
                f" once, and each has a context of its own: {gpu.fit}"
            )


def short(text: str) -> str:
    """Return the text, cut to ``MOST_TEXT`` characters if it is longer."""
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "..."

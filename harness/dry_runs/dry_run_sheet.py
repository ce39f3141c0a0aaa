"""Builds the sheet (the text report) of a dry run from the report's data."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from harness.dry_runs.computing import computed_lines
from harness.dry_runs.dry_run_report import DryRunReport, Frame, Moment, OutOfMemory
from harness.dry_runs.file_layer import WAYS_OUT
from harness.dry_runs.several_runs import (
    cells_parts,
    processes_parts,
    ranks_parts,
    short,
    starts_parts,
    tests_parts,
)
from harness.dry_runs.value_places import ValueRead, checks_in_words, listed, reads_in_words
from harness.plots.memory_page import sheet_html
from harness.plots.sheet import Fold, Part, Sheet, ShownTable
from harness.plots.timeline import Timeline
from harness.schema.block_categories import CATEGORY_WORDS
from harness.schema.growth import LEAST_STEPS, Growth
from harness.schema.host import ONE_POOL
from harness.schema.units import format_bytes, format_range

MOST_GROUPS = 8
MOST_FRAMES = 4
MOST_READS = 8
MOST_FILES = 10


def dry_run_sheet(
    report: DryRunReport,
    target: str,
    *,
    timeline: Callable[[], Timeline] | None = None,
    commands: Sequence[str] = (),
) -> Sheet:
    """Return the sheet, with suggested ``commands`` and, for an HTML page, the ``timeline``."""
    total = format_bytes(report.gpu_total_bytes)
    return Sheet(
        title=f"Dry run of {target}",
        verdict=[
            f"Dry run of {target} on a pretended {report.gpu} ({total}): {report.verdict}"
            + report.range_in_words
        ],
        parts=[*_parts(report)],
        notes=report.notes,
        timeline=timeline,
        commands=commands,
    )


def dry_run_html(report: DryRunReport) -> str:
    """Return the sheet as HTML for a notebook."""
    return sheet_html(dry_run_sheet(report, "your script"))


def _parts(report: DryRunReport) -> Iterator[Part]:
    if report.evidence:
        yield f"  {report.evidence}"
    if report.world_size is not None:
        of = f"; {len(report.ranks)} ranks were run" if report.ranks else ""
        yield f"  rank {report.rank} of {report.world_size}{of}"
    yield from _range(report)
    yield ""
    yield from starts_parts(report)
    yield from tests_parts(report)
    yield from cells_parts(report)
    yield from _peaks(report)
    yield from ranks_parts(report)
    yield from processes_parts(report)
    if report.host is not None:
        yield from report.host.lines(pretended=True)
    yield from _compiled(report)
    for device in report.devices:
        if device.peak is not None and not report.out_of_memory:
            of = f" on GPU {device.index}" if len(report.devices) > 1 else ""
            yield ""
            yield f"# Most bytes requested{of}: {_when(device.peak, device.allocations)}"
            yield from _frames(device.peak.stack)
            yield from _alive(device.peak)
    yield from _phases(report)
    yield from growth_lines(report)
    for refused in report.out_of_memory[:3]:
        yield ""
        yield from _refused(refused)
    if len(report.out_of_memory) > 3:
        yield f"  ... {len(report.out_of_memory) - 3} more allocations were refused"
    yield from _reads(report)
    yield from _files(report)
    if report.unsupported:
        yield f"Not pretended, but called: {', '.join(report.unsupported)}."


def _peaks(report: DryRunReport) -> Iterator[Part]:
    peaks = report.cuda
    of = f" in {report.processes[0].name}, the largest process" if report.processes else ""
    of += f" in rank {report.rank}" if report.ranks else ""
    of += ", in the run with the highest" if report.moves else ""
    rows = []
    for name in ("requested", "allocated", "active", "reserved"):
        size: int | None = getattr(peaks, f"{name}_peak_bytes")
        exact = "" if size is None else f"{size:,} B"
        rows.append((name, "not known" if size is None else format_bytes(size), exact))
    low, high = report.outside_bytes
    what = "CUDA context and libraries, in none of the peaks"
    rows.append(("outside", format_range(low, high), what))
    reserved = peaks.reserved_peak_bytes
    if reserved is not None:
        sum_text = format_range(reserved + low, reserved + high)
        rows.append(("together", sum_text, f"of {format_bytes(report.gpu_total_bytes)}"))
    yield ShownTable(
        title=f"Peaks of PyTorch's CUDA allocator{of}", heads=("", ">", ""), rows=rows, indent=2
    )


def _range(report: DryRunReport) -> Iterator[str]:
    """Yield lines about the runs with other values, and about checks assumed to pass."""
    unknown = report.unknown
    if unknown is None:
        return
    runs = f"{unknown.runs} runs with other numbers for what nobody knows"
    if unknown.moves:
        ends = [one.requested_peak_bytes or 0 for one in (unknown.lowest, unknown.highest)]
        yield f"  {runs} requested {format_range(*ends)}"
        apart = unknown.parting
        yield f"  {f'values read at {listed(unknown.places)}' if apart is None else apart.words}"
    else:
        yield f"  {runs} gave the same peaks (read at {listed(unknown.places)})"
    if unknown.checks:
        yield f"  {checks_in_words(unknown.checks)}"


def _compiled(report: DryRunReport) -> Iterator[str]:
    """Yield lines about compiled graphs, CUDA graphs and the effect of ``torch.compile``."""
    done = report.compiled
    if done is not None:
        first, *rest = done.notes()
        yield first.replace("c", "C", 1)
        yield from (f"  {note}" for note in rest)
    pools = sum(device.graph_pools for device in report.devices)
    if pools:
        kept = format_bytes(sum(device.graph_pool_bytes for device in report.devices))
        yield (
            f"CUDA graphs: {pools} private pool{'s' * (pools > 1)} keep{'s' * (pools == 1)} {kept}"
            " reserved between replays, in the reserved peak"
        )
    for name in ("allocated", "reserved") if report.eager is not None else ():
        one, other = (getattr(peaks, f"{name}_peak_bytes") for peaks in (report.cuda, report.eager))
        if one and other:
            yield (
                f"Without torch.compile: {name} {format_bytes(other)} ({other:,} B);"
                f" compiling changes it by {one / other - 1:+.1%}"
            )


def _when(moment: Moment, allocations: int) -> str:
    steps = "before the first optimizer step was complete"
    if moment.step:
        steps = f"after {moment.step:,} optimizer step{'s' * (moment.step > 1)}"
    size = format_bytes(moment.requested_bytes)
    return f"{size} at allocation {moment.allocation:,} of {allocations:,}, {steps}"


def _frames(stack: tuple[Frame, ...]) -> Iterator[str]:
    for frame in stack[:MOST_FRAMES]:
        text = f": {short(frame.text)}" if frame.text else ""
        yield f"    {frame}{text}"
    if not stack:
        yield "    in the backward pass (a thread of autograd, without Python)"


def _alive(moment: Moment) -> Iterator[Part]:
    sizes = moment.categories.items()
    yield ShownTable(
        title="Alive then",
        heads=(">", ""),
        rows=[(format_bytes(size), CATEGORY_WORDS[category]) for category, size in sizes],
        indent=4,
    )
    places = [
        (
            format_bytes(group.requested_bytes),
            f"{group.blocks:,} block{'s' * (group.blocks > 1)}",
            group.category.replace("_", " "),
            group.place,
        )
        for group in moment.groups
    ]
    heads = (">", ">", "", "")
    shown = places[:MOST_GROUPS]
    yield ShownTable(title="Largest places", heads=heads, rows=shown, indent=4)
    if len(places) > MOST_GROUPS:
        yield Fold("All places", [ShownTable(heads=heads, rows=places)])


def _phases(report: DryRunReport) -> Iterator[Part]:
    for device in report.devices:
        if len(device.phases) > 1:
            rows = [(format_bytes(size), phase) for phase, size in device.phases.items()]
            yield ""
            title = "Most bytes requested in each phase"
            yield ShownTable(title=title, heads=(">", ""), rows=rows, indent=4)


def growth_lines(report: DryRunReport) -> Iterator[str]:
    """Yield lines about memory that grows with each step, and the variables that keep it alive."""
    host = report.host
    taken = 0 if host is None else host.peak_bytes[1]
    shared = host is not None and host.limit_source == ONE_POOL
    room = report.gpu_total_bytes - report.outside_bytes[1] - taken * shared
    seen: list[tuple[str, Growth | None, int | None]] = []
    for device in report.devices:
        of = f" of GPU {device.index}" if len(report.devices) > 1 else ""
        if device.allocations:
            seen.append((of, device.growth, room - (device.peaks.reserved_peak_bytes or 0)))
    if host is not None and report.optimizer_steps >= LEAST_STEPS:
        limit = None if host.limit_bytes is None else host.limit_bytes - taken
        left = room - (report.cuda.reserved_peak_bytes or 0) if shared else limit
        seen.append((" of the host", host.growth, left))
    for of, growth, left in seen if report.optimizer_steps else ():
        if growth is not None:
            yield from growth.lines(of, left)


def _refused(refused: OutOfMemory) -> Iterator[Part]:
    asked, allocated, reserved, free = map(
        format_bytes,
        (
            refused.requested_bytes,
            refused.allocated_bytes,
            refused.reserved_bytes,
            refused.free_bytes,
        ),
    )
    yield (
        f"# Out of memory on GPU {refused.device}: asked for {asked};"
        f" allocated {allocated}, reserved {reserved}, free {free}"
    )
    yield from _frames(refused.stack)
    if refused.at is not None:
        yield from _alive(refused.at)


def _reads(report: DryRunReport) -> Iterator[Part]:
    known = sum(read.known for read in report.value_reads)
    reads = sum(read.count for read in report.value_reads)
    lines = computed_lines(report.computed, known, reads)
    if lines or report.value_reads:
        yield ""
    yield from lines
    if not report.value_reads:
        return
    if known < reads or not lines:
        yield f"{reads_in_words(report.value_reads)}."
    if any(read.known < read.count and read.answer is None for read in report.value_reads):
        yield (
            "  An unknown value is a made-up number unless --answer gives another: what the script"
            " decides by it may differ from a real run."
        )
    rows = [
        (f"{read.count:,}", read.place, f"{short(read.text)}{_how(read)}")
        for read in sorted(report.value_reads, key=partial(_rank, report))[:MOST_READS]
    ]
    if (more := len(report.value_reads) - MOST_READS) > 0:
        rows.append(("", f"... and {more} more places", ""))
    yield ShownTable(heads=(">", "", ""), rows=rows, indent=2)


def _rank(report: DryRunReport, read: ValueRead) -> tuple[bool, bool]:
    """Return the rank of a place: what decides the peaks comes first, then what is unknown."""
    deciding = report.unknown.lines if report.unknown is not None and report.unknown.moves else ()
    return read.place not in deciding, read.known == read.count


def _files(report: DryRunReport) -> Iterator[Part]:
    files = report.files
    if files is not None and files.mode == "read-only":
        yield ""
        yield f"The kernel refused a layer of files ({files.refused}), so nothing could be written:"
        yield f"  {WAYS_OUT}"
    if files is None or not files.written:
        return
    yield ""
    count, size = len(files.written), sum(file.size_bytes or 0 for file in files.written)
    fate = f"copied to {files.kept}" if files.kept else "gone now (--keep-files DIR keeps them)"
    rows = list[tuple[str, ...]]()
    for file in files.written[:MOST_FILES]:
        size_text = "" if file.size_bytes is None else format_bytes(file.size_bytes)
        former = f" (was {file.former})" if file.former else ""
        rows.append((file.what, size_text, f"{file.path}{former}"))
    if count > MOST_FILES:
        rows.append(("", "", f"... and {count - MOST_FILES:,} more"))
    title = f"{count:,} file{'s' * (count > 1)}, {format_bytes(size)}, written in this run: {fate}"
    yield title
    yield ShownTable(heads=("", ">", ""), rows=rows, indent=2)


def _how(read: ValueRead) -> str:
    """Return a remark about the values read at a line, e.g. ``(known)`` or ``(answered 3)``."""
    if read.answer is not None:
        answer = read.answer if isinstance(read.answer, str) else f"{read.answer:g}"
        return f"  (answered {answer})"
    if read.known == read.count:
        return "  (known)"
    if read.sizes:
        return f"  (unknown size: {', '.join(read.sizes)})"
    return f"  (unknown, {read.known:,} known)" if read.known else "  (unknown)"

"""The report of a dry run as text for a terminal."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from harness.dry_runs.cells_text import cells_lines
from harness.dry_runs.dry_run_report import DryRunReport, Frame, Moment, OutOfMemory
from harness.dry_runs.file_layer import WAYS_OUT
from harness.dry_runs.starts_text import starts_lines
from harness.dry_runs.value_places import ValueRead, checks_in_words, listed, reads_in_words
from harness.schema.block_categories import CATEGORY_WORDS
from harness.schema.growth import LEAST_STEPS, Growth
from harness.schema.host import ONE_POOL
from harness.schema.units import format_bytes, format_range

MOST_GROUPS = 8
MOST_FRAMES = 4
MOST_READS = 8
MOST_FILES = 10
MOST_PROCESSES = 16
MOST_TESTS = 40
MOST_TEXT = 80


def dry_run_text(report: DryRunReport, *, target: str) -> str:
    """Return the report as lines of text."""
    lines = (line.replace("\n", "\\n") for line in _lines(report, target))  # of names of files
    return "\n".join(lines)


def _lines(report: DryRunReport, target: str) -> Iterator[str]:
    total = format_bytes(report.gpu_total_bytes)
    yield ""
    yield f"Dry run of {target} on a pretended {report.gpu} ({total}): {report.verdict}"
    if report.evidence:
        yield f"  {report.evidence}"
    if report.world_size is not None:
        of = f"; {len(report.ranks)} ranks were run" if report.ranks else ""
        yield f"  rank {report.rank} of {report.world_size}{of}"
    yield ""
    yield from starts_lines(report)
    yield from _tests(report)
    yield from cells_lines(report)
    yield from _peaks(report)
    yield from _ranks(report)
    yield from _processes(report)
    if report.host is not None:
        yield from report.host.lines(pretended=True)
    yield from _range(report)
    yield from _compiled(report)
    for device in report.devices:
        if device.peak is not None and not report.out_of_memory:
            of = f" on GPU {device.index}" if len(report.devices) > 1 else ""
            yield ""
            yield f"Most bytes requested{of}: {_when(device.peak, device.allocations)}"
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
    for note in report.notes:
        yield f"Note: {note}."
    if report.unsupported:
        yield f"Not pretended, but called: {', '.join(report.unsupported)}."


def _peaks(report: DryRunReport) -> Iterator[str]:
    peaks = report.cuda
    of = f" in {report.processes[0].name}, the largest process" if report.processes else ""
    of += f" in rank {report.rank}" if report.ranks else ""
    yield f"Peaks of PyTorch's CUDA allocator{of}:"
    for name in ("requested", "allocated", "active", "reserved"):
        size: int | None = getattr(peaks, f"{name}_peak_bytes")
        text = "not known" if size is None else f"{format_bytes(size):>12}  {size:>19,} B"
        yield f"  {name:<10}{text}"
    low, high = report.outside_bytes
    what = "CUDA context and libraries, in none of the peaks"
    yield f"  outside   {format_range(low, high):>12}  {what}"
    reserved = peaks.reserved_peak_bytes
    if reserved is not None:
        sum_text = format_range(reserved + low, reserved + high)
        yield f"  together  {sum_text:>12}  of {format_bytes(report.gpu_total_bytes)}"


def _tests(report: DryRunReport) -> Iterator[str]:
    """Yield the result of each test, and the most bytes that it requested."""
    if not report.tests:
        return
    counts = Counter(one.outcome for one in report.tests)
    ended = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())
    yield f"Tests ({len(report.tests):,}): {ended}"
    for one in sorted(report.tests, key=lambda one: one.outcome in ("passed", "skipped"))[
        :MOST_TESTS
    ]:
        size = "-" if one.requested_peak_bytes is None else format_bytes(one.requested_peak_bytes)
        yield f"  {one.outcome:<8}{size:>12}  {one.seconds:6.1f} s  {one.name}"
        if one.why:
            yield f"      {_short(one.why)}"
    if (more := len(report.tests) - MOST_TESTS) > 0:
        yield f"  ... and {more:,} more"
    yield ""


def _ranks(report: DryRunReport) -> Iterator[str]:
    """Yield the peaks of each rank, equal neighbours in one line."""
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
    most = "at most " if one.unknown is not None and one.unknown.moves else ""
    verdict = one.outcome if one.fit is None else f"{one.outcome}, {one.fit}"
    why = f"; {_short(one.evidence)}" if one.evidence else ""
    return f"{most}allocated {sizes[0]}, reserved {sizes[1]}: {verdict}{why}"


def _processes(report: DryRunReport) -> Iterator[str]:
    """Yield the processes that used the GPUs, and what they held at once."""
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


def _range(report: DryRunReport) -> Iterator[str]:
    """Yield how far values that nobody knows move the peaks, and by which lines."""
    unknown = report.unknown
    if unknown is None:
        return
    if unknown.moves:
        yield f"Values that nobody knows move the peaks ({listed(unknown.lines)}):"
        for name in ("requested", "allocated", "active", "reserved"):
            ends = [getattr(one, f"{name}_peak_bytes") for one in (unknown.lowest, unknown.highest)]
            if ends[0] != ends[1]:
                yield f"  {name:<10}{format_range(*ends)} in {unknown.runs} runs"
    if unknown.checks:
        yield f"{checks_in_words(unknown.checks).capitalize()}"


def _compiled(report: DryRunReport) -> Iterator[str]:
    """Yield the compiled graphs, the CUDA graphs, their effect, and the choices not measured."""
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
        text = f": {_short(frame.text)}" if frame.text else ""
        yield f"    {frame}{text}"
    if not stack:
        yield "    in the backward pass (a thread of autograd, without Python)"


def _alive(moment: Moment) -> Iterator[str]:
    yield "  Alive then:"
    for category, size in moment.categories.items():
        yield f"    {format_bytes(size):>10}  {CATEGORY_WORDS[category]}"
    yield "  Largest places:"
    for group in moment.groups[:MOST_GROUPS]:
        blocks = f"{group.blocks:,} block{'s' * (group.blocks > 1)}"
        total = format_bytes(group.requested_bytes)
        yield f"    {total:>10}  {blocks:>12}  {group.category:<16}{group.place}"


def _phases(report: DryRunReport) -> Iterator[str]:
    for device in report.devices:
        if len(device.phases) > 1:
            yield ""
            yield "Most bytes requested in each phase:"
            for phase, size in device.phases.items():
                yield f"    {format_bytes(size):>10}  {phase}"


def growth_lines(report: DryRunReport) -> Iterator[str]:
    """Yield if memory grows from step to step: how much, by which lines, and what keeps it."""
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


def _refused(refused: OutOfMemory) -> Iterator[str]:
    yield (
        f"Out of memory on GPU {refused.device}: asked for {format_bytes(refused.requested_bytes)};"
        f" allocated {format_bytes(refused.allocated_bytes)}, reserved"
        f" {format_bytes(refused.reserved_bytes)}, free {format_bytes(refused.free_bytes)}"
    )
    yield from _frames(refused.stack)
    if refused.at is not None:
        yield from _alive(refused.at)


def _reads(report: DryRunReport) -> Iterator[str]:
    if not report.value_reads:
        return
    yield ""
    yield f"{reads_in_words(report.value_reads)}."
    if any(read.known < read.count and read.answer is None for read in report.value_reads):
        yield (
            "  An unknown value is zero unless --answer gives another: what the script decides by"
            " it may differ from a real run."
        )
    for read in report.value_reads[:MOST_READS]:
        yield f"  {read.count:>8,}  {read.place}  {_short(read.text)}{_how(read)}"
    if len(report.value_reads) > MOST_READS:
        yield f"            ... and {len(report.value_reads) - MOST_READS} more places"


def _files(report: DryRunReport) -> Iterator[str]:
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
    yield f"{count:,} file{'s' * (count > 1)}, {format_bytes(size)}, written in this run: {fate}"
    for file in files.written[:MOST_FILES]:
        size_text = "" if file.size_bytes is None else format_bytes(file.size_bytes)
        former = f" (was {file.former})" if file.former else ""
        yield f"  {file.what:<8} {size_text:>10}  {file.path}{former}"
    if count > MOST_FILES:
        yield f"  ... and {count - MOST_FILES:,} more"


def _how(read: ValueRead) -> str:
    """Return what the reads of a place got, if that is not zero."""
    if read.answer is not None:
        answer = read.answer if isinstance(read.answer, str) else f"{read.answer:g}"
        return f"  (answered {answer})"
    if read.known == read.count:
        return "  (known)"
    if read.sizes:
        return f"  (unknown size: {', '.join(read.sizes)})"
    return f"  (unknown, {read.known:,} known)" if read.known else "  (unknown)"


def _short(text: str) -> str:
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "..."

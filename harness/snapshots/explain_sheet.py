"""Answer of ``harness explain`` as a sheet, which becomes text or an HTML page."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from harness.plots.category_colours import LEVELS
from harness.plots.sheet import Code, Fold, Part, Sheet, ShownTable
from harness.plots.timeline import ShownBlock, Timeline
from harness.schema.units import format_bytes
from harness.snapshots.explain import Explanation
from harness.snapshots.log_failures import LogFailure, explained
from harness.snapshots.moments import BlockGroup, RecordedMoment
from harness.snapshots.oom_message import OutOfMemoryMessage
from harness.snapshots.oom_text import failures_lines, parts
from harness.snapshots.what_if import WhatIf

_CAUSE = "cause: "
_SHOWN = 6
_LEAST_SHARE = 1000
"""Groups of blocks with less than 1/1000 of the live bytes are shown only in folded tables."""


def explanation_sheet(explanations: Sequence[Explanation]) -> Sheet:
    """Return the sheet of all devices; its timeline shows only the first device."""
    first, *others = explanations
    return Sheet(
        title="Memory snapshot explained",
        verdict=[*_asked(first), _head(first), *first.sentences],
        parts=[*_device(first), *(part for each in others for part in _other(each))],
        timeline=None if first.blocks is None else first.blocks,
        commands=_commands(first),
    )


def failures_sheet(failures: Sequence[LogFailure], notes: Sequence[str] = ()) -> Sheet:
    """Return the sheet of a log: all its failures, and the GPU's memory at one of them."""
    last = next((one.message for one in explained(failures) if one.message is not None), None)
    lines = [*failures_lines(failures)]
    first = 2 if lines[0].startswith(_CAUSE) else 1
    return Sheet(
        title="Out of memory explained",
        verdict=lines[:first],
        parts=[*_log_parts(lines[first:]), *notes],
        timeline=None if last is None else partial(_held, last),
    )


def _log_parts(lines: Sequence[str]) -> Iterator[Part]:
    """Yield the lines of a log: causes as headings, indented lines as preformatted text."""
    for is_indented, run in groupby(lines, lambda line: line.startswith("  ")):
        if is_indented:
            yield Code("\n".join(line[2:] for line in run))
        else:
            yield from (f"# {line}" if line.startswith(_CAUSE) else line for line in run)


def _head(explanation: Explanation) -> str:
    return f"device {explanation.device}: {explanation.diagnosis}"


def _asked(explanation: Explanation) -> list[str]:
    """Return the answers for the GPUs, the memory and the settings that the user asked for."""
    return [f"{case.name}: {_outcome(case)}" for case in explanation.what_ifs if case.is_asked]


def _commands(explanation: Explanation) -> list[str]:
    """Return commands with settings under which the replay fits, or a ``harness plan`` command."""
    if explanation.failure is None:
        return []
    total = explanation.failure.usable_bytes
    fitting = [
        f"PYTORCH_ALLOC_CONF={case.name} python YOUR_SCRIPT.py"
        for case in explanation.what_ifs
        if ":" in case.name and case.verdict == "fits" and case.total_bytes == total
    ]
    return fitting[:2] or ["harness plan FILE.py:NETWORK --input SHAPE --batch N --gpu NAME"]


def _held(message: OutOfMemoryMessage) -> Timeline:
    """Return the parts of the GPU's memory at the failure, as a timeline with one point in time."""
    held = [(name, size) for _, name, size in parts(message)]
    return Timeline(
        blocks=[(ShownBlock(0, 1, size, name, name, ""), 1) for name, size in held],
        events=range(1),
        colours={name: LEVELS[at % len(LEVELS)] for at, (name, _) in enumerate(held)},
        heading="The GPU's memory at the failure",
    )


def _other(explanation: Explanation) -> Iterator[Part]:
    yield ""
    yield f"# {_head(explanation)}"
    yield from explanation.sentences
    yield from _device(explanation)


def _device(explanation: Explanation) -> Iterator[Part]:
    yield from (f"note: {note}" for note in explanation.notes)
    yield ""
    moment = explanation.moments[0]
    yield from _moment_lines(explanation)
    yield from _moment_tables(moment)
    for each in explanation.moments:  # the peak: left out where the failure has the same blocks
        if each is moment or each.categories != moment.categories:
            yield Fold(f"Alive {each.name}: {_of_reserved(each)}", [*_all_groups(each)])
    yield ""
    yield from _growth(explanation)
    yield (
        f"reserved beyond what was alive, at the peaks: "
        f"{format_bytes(max(0, explanation.fragmentation_bytes))} of "
        f"{format_bytes(explanation.peak_reserved_bytes)}"
    )
    after = " (the request that failed; what comes after is not recorded)"
    after = "" if explanation.failure is None else after
    if explanation.what_ifs:
        yield f"# what if{after}"
    for words, names in _outcomes(explanation).items():
        yield f"  {', '.join(names)}: {words}"


def _outcomes(explanation: Explanation) -> dict[str, list[str]]:
    """Return the names of the replayed cases, grouped by outcome."""
    alike: dict[str, list[str]] = {}
    for case in explanation.what_ifs:
        alike.setdefault(_outcome(case), []).append(case.name)
    return alike


def _outcome(case: WhatIf) -> str:
    """Describe the outcome of a replayed case: its peak, or the request that failed."""
    total = case.total_bytes
    within = "" if total is None else f" in {format_bytes(total)}"
    if case.ran_out:
        first = case.ran_out[0]
        word = "fails" if case.verdict == "does not fit" else "may fail (by the driver's addresses)"
        at = f"at event {first.position}: {format_bytes(first.requested_bytes)} requested"
        return f"{word}{within} {at}"
    low, high = case.peak_reserved_bytes or (0, 0)
    peak = format_bytes(low) if low == high else f"{format_bytes(low)} to {format_bytes(high)}"
    return f"{'needs' if total is None else 'fits'}{within}: peak reserved {peak}"


def _moment_lines(explanation: Explanation) -> Iterator[str]:
    """Yield lines on the memory at the failure, or at the peak if no request failed."""
    moment, *others = explanation.moments
    failure = explanation.failure
    size = format_bytes
    line = f"{moment.name} (event {moment.position}): {size(moment.alive_bytes)} alive, "
    line += f"{size(moment.reserved_bytes)} reserved"
    if failure is not None:
        line += (
            f", {size(failure.device_free_bytes)} free on the GPU; "
            f"{size(failure.requested_bytes)} requested, which needs a segment of "
            f"{size(failure.segment_bytes)}"
        )
    yield line
    if failure is not None and failure.is_limited:
        yield (
            "the GPU had room, so a limit of the process refused, such as "
            "set_per_process_memory_fraction; it had allowed "
            f"{format_bytes(failure.usable_bytes)} before"
        )
    for other in others:
        if other.alive_bytes > moment.alive_bytes:
            more = f"{format_bytes(other.alive_bytes)} alive"
            yield f"{other.name} (event {other.position}): {more}; --json and --html have its parts"


def _moment_tables(moment: RecordedMoment) -> Iterator[Part]:
    """Yield tables of the largest groups of live blocks."""
    yield _groups("by category", moment.categories[:_SHOWN])
    large = [
        group
        for group in moment.groups[:_SHOWN]
        if group.size_bytes * _LEAST_SHARE >= moment.alive_bytes
    ]
    yield _groups("by line", [(_blocks_text(group), group.size_bytes) for group in large])


def _all_groups(moment: RecordedMoment) -> Iterator[Part]:
    blocks = [(_blocks_text(group), group.size_bytes) for group in moment.groups]
    yield _groups("by category", moment.categories)
    yield _groups("by module", moment.modules)
    yield _groups("by line, all blocks that are alike together", blocks)


def _groups(title: str, groups: Sequence[tuple[str, int]]) -> ShownTable:
    rows = [(format_bytes(size), name) for name, size in groups]
    return ShownTable(title=title, heads=(">", ""), rows=rows, indent=4)


def _of_reserved(moment: RecordedMoment) -> str:
    return f"{format_bytes(moment.alive_bytes)} of {format_bytes(moment.reserved_bytes)} reserved"


def _blocks_text(group: BlockGroup) -> str:
    """Describe a group of blocks: their number, their category and their source lines."""
    each = f"{group.count:,} blocks"
    if group.same_size:
        each = f"{group.count:,} x {format_bytes(group.size_bytes // group.count)}"
    lines = group.line
    if group.place is not None and group.place not in group.line:
        lines = f"{group.place} < {group.line}"
    return f"{each}, {group.category}: {lines}"


def _growth(explanation: Explanation) -> Iterator[str]:
    growth = explanation.growth
    if growth.kind == "unknown" and explanation.failure is not None:
        return
    yield from growth.lines()
    if growth.first_step_bytes > 0:
        yield f"  {format_bytes(growth.first_step_bytes)} stay after the first step"

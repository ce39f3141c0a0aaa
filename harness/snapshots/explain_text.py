"""A recording explained in words, for a terminal."""

from collections.abc import Iterator

from harness.schema.units import format_bytes
from harness.snapshots.explain import Explanation
from harness.snapshots.moments import BlockGroup
from harness.snapshots.what_if import WhatIf

_SHOWN = 6
_LEAST_SHARE = 1000
"""Groups of blocks below this part of what was alive are not shown."""


def explanation_text(explanation: Explanation) -> str:
    """Return the explanation as lines of text."""
    return "\n".join(_lines(explanation)) + "\n"


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"device {explanation.device}: {explanation.diagnosis}"
    yield from explanation.sentences
    for note in explanation.notes:
        yield f"note: {note}"
    yield ""
    yield from _moment(explanation)
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
        yield f"what if{after}"
    for names, words, _ in outcomes(explanation):
        yield f"  {', '.join(names)}: {words}"


def outcomes(explanation: Explanation) -> list[tuple[list[str], str, bool]]:
    """Return each outcome of the what-ifs with the names that have it, and whether it is bad."""
    alike: dict[tuple[str, bool], list[str]] = {}
    for case in explanation.what_ifs:
        alike.setdefault((_outcome(case), bool(case.ran_out)), []).append(case.name)
    return [(names, words, is_bad) for (words, is_bad), names in alike.items()]


def _outcome(case: WhatIf) -> str:
    """Return "fits" with the peak, or the failure; without a limit return only the peak."""
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


def _moment(explanation: Explanation) -> Iterator[str]:
    """Yield what was alive at the failure, or at the peak if nothing failed."""
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
    yield "  by category"
    for name, held in moment.categories[:_SHOWN]:
        yield f"    {size(held):>10}  {name}"
    yield "  by line"
    for group in moment.groups[:_SHOWN]:
        if group.size_bytes * _LEAST_SHARE < moment.alive_bytes:
            break
        yield f"    {format_bytes(group.size_bytes):>10}  {blocks_text(group)}"


def blocks_text(group: BlockGroup) -> str:
    """Return how many blocks they are, and the lines that they come from, the user's last."""
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

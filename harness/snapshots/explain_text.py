"""A recording explained in words, for a terminal."""

from collections.abc import Iterator

from harness.schema.units import format_bytes
from harness.snapshots.explain import Explanation
from harness.snapshots.moments import Moment
from harness.snapshots.what_if import WhatIf

_SHOWN = 6


def explanation_text(explanation: Explanation) -> str:
    """Return the explanation as lines of text."""
    return "\n".join(_lines(explanation)) + "\n"


def _lines(explanation: Explanation) -> Iterator[str]:
    yield f"device {explanation.device}: {explanation.diagnosis}"
    yield from explanation.sentences
    for note in explanation.notes:
        yield f"note: {note}"
    failure = explanation.failure
    if failure is not None:
        yield ""
        yield (
            f"at the failure (event {failure.position}): "
            f"{format_bytes(failure.requested_bytes)} requested, which needs a segment of "
            f"{format_bytes(failure.segment_bytes)}; {format_bytes(failure.alive_bytes)} alive, "
            f"{format_bytes(failure.reserved_bytes)} reserved, "
            f"{format_bytes(failure.device_free_bytes)} free on the GPU"
        )
        if failure.is_limited:
            yield (
                "the GPU had room, so a limit of the process refused, such as "
                "set_per_process_memory_fraction; it had allowed "
                f"{format_bytes(failure.usable_bytes)} before"
            )
    for moment in explanation.moments:
        yield ""
        yield from _moment(moment)
    yield ""
    yield from _growth(explanation)
    yield (
        f"reserved beyond what was alive, at the peaks: "
        f"{format_bytes(max(0, explanation.fragmentation_bytes))} of "
        f"{format_bytes(explanation.peak_reserved_bytes)}"
    )
    yield ""
    yield "what if" + (
        "" if failure is None else " (the request that failed; what comes after is not recorded)"
    )
    for case in explanation.what_ifs:
        yield f"  {case.name:<32}{outcome(case)}"


def outcome(case: WhatIf) -> str:
    """Return "fits" with the peak, or where it fails; without a limit, the peak alone."""
    total = case.config.total_bytes
    within = "" if total is None else f" in {format_bytes(total)}"
    if case.ran_out:
        first = case.ran_out[0]
        word = (
            "fails" if case.verdict() == "does not fit" else "may fail (by the driver's addresses)"
        )
        at = f"at event {first.position}: {format_bytes(first.requested_bytes)} requested"
        return f"{word}{within} {at}"
    low, high = case.peak_reserved_bytes or (0, 0)
    peak = format_bytes(low) if low == high else f"{format_bytes(low)} to {format_bytes(high)}"
    return f"{'needs' if total is None else 'fits'}{within}: peak reserved {peak}"


def _moment(moment: Moment) -> Iterator[str]:
    yield (
        f"alive {moment.name} (event {moment.position}): {format_bytes(moment.alive_bytes)}, "
        f"reserved {format_bytes(moment.reserved_bytes)}"
    )
    for heading, groups in (
        ("by category", moment.categories),
        ("by module", moment.modules),
        ("by line of your code", moment.frames),
    ):
        yield f"  {heading}"
        for name, size in groups[:_SHOWN]:
            yield f"    {format_bytes(size):>10}  {name}"
    yield "  largest blocks"
    for block in moment.largest[:_SHOWN]:
        frames = " < ".join(block.frames[:4]) or "no Python frame"
        yield f"    {format_bytes(block.size_bytes):>10}  {block.category}: {frames}"


def _growth(explanation: Explanation) -> Iterator[str]:
    growth = explanation.growth
    yield f"growth over steps: {growth.kind} ({growth.reason})"
    if growth.first_step_bytes > 0:
        yield f"  {format_bytes(growth.first_step_bytes)} stay after the first step"
    for name, size in growth.places:
        yield f"  {format_bytes(size):>10}  {name}"

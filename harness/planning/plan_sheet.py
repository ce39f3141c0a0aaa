"""Makes the page of a plan, with all candidates and the effect of each single change."""

from collections.abc import Iterator

from harness.planning.plan_result import Candidate, Plan
from harness.plots.memory_page import sheet_html
from harness.plots.sheet import Bars, Code, Fold, Part, Sheet, ShownTable
from harness.schema.units import format_bytes

MOST_CANDIDATES = 12
COST_MODEL = (
    "times are estimates next to the step as asked (1.00): a repeated forward pass adds a third, "
    "each further micro-batch 2%, bfloat16 takes 0.6, LoRA 0.67, freeing cached segments adds 10%"
)
_LEVER_HEADS = (">time, about", ">saves", ">reserved peak", "fits", "one change to the whole batch")


def plan_sheet(plan: Plan, target: str = "your network") -> Sheet:
    """Return the page of a plan, with the first candidate at the top."""
    head = f"{target}, batch {plan.batch:,}"
    answer = f"{head}: nothing that was tried fits on {plan.gpu}"
    if plan.candidates:
        changes = plan.candidates[0].described()
        answer = f"{head}: {'fits without a change' if changes == 'nothing' else changes}"
    several = len(plan.candidates) > 1
    return Sheet(
        title=f"Plan for {target}, batch {plan.batch:,}",
        verdict=[answer],
        parts=[*_parts(plan)],
        notes=[*[COST_MODEL] * several, *plan.notes],
    )


def plan_html(plan: Plan) -> str:
    """Return the page of a plan as HTML for a notebook."""
    return sheet_html(plan_sheet(plan))


def _parts(plan: Plan) -> Iterator[Part]:
    for first in plan.candidates[:1]:
        yield from _first(first)
    yield f"as asked: {plan.as_asked}"
    usable = plan.usable_bytes
    yield Bars(
        f"Reserved peak before and after; the line: {format_bytes(usable)} free",
        [(words, fit.reserved_peak_bytes[1]) for words, fit in plan.steps()],
        usable,
    )
    if len(plan.candidates) > 1:
        yield _candidates(plan)
    for one in plan.candidates[1:]:
        if one.code:
            yield Fold(f"Code: {one.described()}", [Code(one.code)])
    run = [one.cells() for one in plan.levers if one.fit is not None]
    yield ShownTable(title="Each change by itself", heads=_LEVER_HEADS, rows=run)
    yield from (f"not run: {one.name}: {one.why}" for one in plan.levers if one.fit is None)
    said = (*plan.edges, *(() if plan.saving is None else (plan.saving,)))
    yield from (f"loading and saving: {each}" for each in said)
    if plan.too_large:
        changes = "; ".join(plan.too_large)
        yield f"do not fit or do not run, even with micro-batches of 1: {changes}"


def _first(first: Candidate) -> Iterator[Part]:
    yield str(first.fit)
    if first.neighbour is not None:
        what = "is a close call" if first.neighbour.verdict == "close call" else "does not fit"
        reserved = first.neighbour.reserved_text
        yield f"the next larger micro-batch {what}: it reserves {reserved}"
    if first.allocator_settings:
        yield f"run with PYTORCH_ALLOC_CONF={first.allocator_settings}"
    if first.code:
        yield Code(first.code)


def _candidates(plan: Plan) -> ShownTable:
    rows = [
        (f"{one.relative_time:.2f}", one.fit.reserved_text, one.fit.word, one.described())
        for one in plan.candidates[:MOST_CANDIDATES]
    ]
    if len(plan.candidates) > MOST_CANDIDATES:
        more = len(plan.candidates) - MOST_CANDIDATES
        rows.append(("", "", "", f"... and {more} more; --json lists all"))
    return ShownTable(heads=(">time, about", ">reserved peak", "fits", "change"), rows=rows)

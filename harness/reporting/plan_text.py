"""A plan as text on a terminal."""

from harness.planning.plan_result import LEVER_HEADS, Candidate, Plan
from harness.reporting.terminal import AnswerConsole

MOST_CANDIDATES = 12
COST_MODEL = (
    "times are estimates next to the step as asked (1.00): a repeated forward pass adds a third, "
    "each further micro-batch 2%, bfloat16 takes 0.6, LoRA 0.67, freeing cached segments adds 10%"
)


def print_plan(target: str, plan: Plan) -> None:
    """Print the answer first, then the table of candidates and the notes."""
    console = AnswerConsole()
    head = f"{target}, batch {plan.batch:,}"
    if plan.candidates:
        _print_first(console, head, plan.candidates[0])
    else:
        console.say(f"{head}: nothing that was tried fits on {plan.gpu}", "bold")
    if len(plan.candidates) > 1:
        rows = [
            (f"{one.relative_time:.2f}", one.fit.reserved_text, one.described())
            for one in plan.candidates[:MOST_CANDIDATES]
        ]
        if len(plan.candidates) > MOST_CANDIDATES:
            more = len(plan.candidates) - MOST_CANDIDATES
            rows.append(("", "", f"... and {more} more; --json lists all"))
        console.table((">time, about", ">reserved peak", "change"), rows)
        console.say(f"note: {COST_MODEL}")
    console.say(f"as asked: {plan.as_asked}")
    if plan.levers:
        run = [one.cells() for one in plan.levers if one.fit is not None]
        console.table(LEVER_HEADS, run)
        console.say_all(f"not run: {one.name}: {one.why}" for one in plan.levers if one.fit is None)
    console.say_all(plan.edge_lines())
    if plan.too_large:
        console.say(f"do not fit, even with micro-batches of 1: {'; '.join(plan.too_large)}")
    console.say_all(plan.notes)


def _print_first(console: AnswerConsole, head: str, first: Candidate) -> None:
    changes = first.described()
    console.say(f"{head}: {'fits without a change' if changes == 'nothing' else changes}", "bold")
    console.say(str(first.fit))
    if first.neighbour is not None:
        what = "is a close call" if first.neighbour.verdict == "close call" else "does not fit"
        reserved = first.neighbour.reserved_text
        console.say(f"the next larger micro-batch {what}: it reserves {reserved}")
    if first.allocator_settings:
        console.say(f"run with PYTORCH_ALLOC_CONF={first.allocator_settings}")
    console.say_all(first.code.splitlines(), before="    ")

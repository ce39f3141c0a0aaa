"""Text of ``harness plan``: the fastest change that fits, its proof, its code, the rest."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.schema.terminal_console import PlainConsole

if TYPE_CHECKING:
    from harness.planning.plan_result import Candidate, Plan

MOST_ROWS = 12
CLOSE = "close call"
COST_MODEL = (
    "times are estimates next to the step as asked (1.00): a repeated forward pass adds a third, "
    "each further micro-batch 2%, bfloat16 takes 0.6, freeing cached segments adds 10%"
)


def print_plan(target: str, plan: "Plan") -> None:
    """Print the answer first, then the table of candidates and the notes."""
    console = PlainConsole(highlight=False)

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    head = f"{target}, batch {plan.batch:,}"
    if not plan.candidates:
        line(f"{head}: nothing that was tried fits on {plan.gpu}", "bold")
    else:
        _print_first(head, plan.candidates[0], line)
        if len(plan.candidates) > 1:
            console.print(_table(plan.candidates))
            line(f"note: {COST_MODEL}")
    line(f"as asked: {plan.as_asked}")
    if plan.rejected:
        line("tried, and not sure to fit:")
        for text in plan.rejected[:MOST_ROWS]:
            line(f"  {text}")
        if len(plan.rejected) > MOST_ROWS:
            line(f"  ... and {len(plan.rejected) - MOST_ROWS} more; --json lists all")
    if plan.too_large:
        line(f"do not fit, even with micro-batches of 1: {'; '.join(plan.too_large)}")
    for note in plan.notes:
        line(f"note: {note}")


def _print_first(head: str, first: "Candidate", line: Callable[..., None]) -> None:
    changes = first.described()
    line(f"{head}: {changes if changes != 'nothing' else 'fits without a change'}", "bold")
    line(str(first.fit))
    if first.neighbour is not None:
        what = "is a close call" if first.neighbour.verdict == CLOSE else "does not fit"
        line(f"the next larger micro-batch {what}: it reserves {first.neighbour.reserved_text}")
    if first.allocator_settings:
        line(f"run with PYTORCH_ALLOC_CONF={first.allocator_settings}")
    for text in first.code.splitlines():
        line(f"    {text}")


def _table(candidates: Sequence["Candidate"]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("time, about", justify="right")
    table.add_column("reserved peak", justify="right")
    table.add_column("change", overflow="fold")
    for one in candidates[:MOST_ROWS]:
        table.add_row(f"{one.relative_time:.2f}", one.fit.reserved_text, Text(one.described()))
    if len(candidates) > MOST_ROWS:
        table.add_row("", "", f"... and {len(candidates) - MOST_ROWS} more; --json lists all")
    return table

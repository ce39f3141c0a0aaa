"""Text of commands on a terminal: plain lines and tables that also read well through a pipe."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.plots.shown_tables import ShownTable, sizes_table
from harness.reporting.terminal_console import PlainConsole
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.planning.plan_result import Candidate, Plan
    from harness.schema.threshold import Threshold


_WIDEST = 10_000


class AnswerConsole(PlainConsole):
    """A console whose lines are never broken and whose texts are not read as markup."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """Print one line, however long."""
        self.print(Text(text, style=style), soft_wrap=True)

    def say_all(self, texts: Iterable[str], before: str = "note: ") -> None:
        """Print a line for each text, with the words ``before`` it."""
        for text in texts:
            self.say(f"{before}{text}")

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """Print a table; a heading that begins with ">" is of numbers, which stand to the right.

        Without a terminal no name is broken, so that ``grep`` finds it.
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in headings:
            is_numeric = heading.startswith(">")
            table.add_column(
                heading.removeprefix(">"),
                justify="right" if is_numeric else "left",
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
        if not self.is_terminal:
            wide = self.options.update(max_width=_WIDEST)
            self.width = max(self.width, Measurement.get(self, wide, table).maximum)
            with self.capture() as written:
                self.print(table)
            lines = written.get().splitlines()  # each is padded to the width of the widest
            self.say_all((line.rstrip() for line in lines), before="")
            return
        self.print(table)

    def show(self, table: ShownTable) -> None:
        """Print a table, on a narrow terminal without its spare column; nothing without rows."""
        rows = [table.heads, *table.rows]
        width = sum(1 + max(map(len, column)) for column in zip(*rows, strict=True))
        if self.is_terminal and width > self.width and table.spare in table.heads:
            at = table.heads.index(table.spare)
            rows = [(*row[:at], *row[at + 1 :]) for row in rows]
        if table.rows:
            self.table(rows[0], rows[1:])


_HEADROOM = {
    "live_bytes": "live bytes at the peak",
    "rounding_bytes": "block headers and alignment",
    "small_bytes": "blocks smaller than a page, from memory that was there before",
    "library_bytes": "libraries: code, buffers and growth of the heap",
    "unused_bytes": "unused",
}


def print_threshold(threshold: "Threshold") -> None:
    """Print a threshold: the answer, the prediction, where the budget goes, every probe."""
    console = AnswerConsole()
    solve = threshold.solve
    console.say(threshold.answer, "bold")
    console.say(threshold.question)
    for text, value in (
        ("predicted", threshold.predicted),
        ("predicted from live bytes alone", threshold.live_bytes_predict),
    ):
        console.say(f"{text}: {'no prediction' if value is None else f'{solve} {value:,}'}")
    if threshold.outside:
        console.say(threshold.outside)
    console.say_all((f"{key}: {fact}" for key, fact in threshold.evidence.items()), before="")
    rows = [
        (
            f"{probe.value:,}",
            str(probe.outcome),
            probe.phase or "",
            "" if probe.needed_bytes is None else format_bytes(probe.needed_bytes),
            f"{probe.seconds:.2f}",
        )
        for probe in threshold.probes
    ]
    console.table((f"probed {solve}", "outcome", "phase", "needed", "seconds"), rows)
    if threshold.headroom is not None:
        parts = [(label, getattr(threshold.headroom, name)) for name, label in _HEADROOM.items()]
        head = f"the budget at {solve} {threshold.largest_fit:,}"
        console.show(sizes_table("", parts, head))


MOST_CANDIDATES = 12
COST_MODEL = (
    "times are estimates next to the step as asked (1.00): a repeated forward pass adds a third, "
    "each further micro-batch 2%, bfloat16 takes 0.6, LoRA 0.67, freeing cached segments adds 10%"
)


def print_plan(target: str, plan: "Plan") -> None:
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
        from harness.planning.plan_result import LEVER_HEADS

        run = [one.cells() for one in plan.levers if one.fit is not None]
        console.table(LEVER_HEADS, run)
        console.say_all(f"not run: {one.name}: {one.why}" for one in plan.levers if one.fit is None)
    if plan.too_large:
        console.say(f"do not fit, even with micro-batches of 1: {'; '.join(plan.too_large)}")
    console.say_all(plan.notes)


def _print_first(console: AnswerConsole, head: str, first: "Candidate") -> None:
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

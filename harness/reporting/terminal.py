"""Text of commands on a terminal: plain lines and tables that also read well through a pipe."""

from collections.abc import Iterable, Sequence

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.reporting.terminal_console import PlainConsole

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

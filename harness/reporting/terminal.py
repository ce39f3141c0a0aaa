"""Text of commands on a terminal: plain lines and tables that also read well through a pipe."""

from collections.abc import Iterable, Sequence

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.reporting.terminal_console import PlainConsole

_WIDEST = 10_000


class AnswerConsole(PlainConsole):
    """A console that does not break lines and does not interpret markup."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """Print one line, which is not broken."""
        self.print(Text(text, style=style), soft_wrap=True)

    def say_all(self, texts: Iterable[str], before: str = "note: ") -> None:
        """Print a line for each text, after the words ``before``."""
        for text in texts:
            self.say(f"{before}{text}")

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """Print a table; a heading that begins with ">" marks numbers, aligned to the right.

        Without a terminal, names are not broken, so that ``grep`` finds them.
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

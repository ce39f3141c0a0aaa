"""Shows a sweep as it goes: a bar with the time left on a terminal, a line a cell elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.schema.plain_text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


@contextmanager
def shown() -> Iterator["Lines | Terminal"]:
    """Yield the progress that suits standard error."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from harness.schema.terminal_console import PlainConsole

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("[dim]{task.fields[cell]}"),
    )
    with Progress(*columns, console=PlainConsole(stderr=True)) as bar:
        yield Terminal(bar)


def format_seconds(seconds: float | None) -> str:
    """Return a duration as people say it, such as ``2 min 5 s``; nothing where unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Lines:
    """One plain line a cell on standard error, for logs and pipes."""

    def __init__(self) -> None:
        self._cells = 0

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Say what is there already."""
        self._cells = cells
        for note in notes:
            print(printable(note), file=sys.stderr)
        print(f"{experiment}: {cells} cells, {done} done already", file=sys.stderr)

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Print the cell's line."""
        after = f" ({format_seconds(seconds_left)} left)" if left and seconds_left else ""
        number = self._cells - left
        print(f"[{number}/{self._cells}] {description}{after}", file=sys.stderr, flush=True)


class Terminal:
    """A bar per experiment."""

    def __init__(self, bar: "Bar") -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._cells = 0

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Start another bar."""
        for note in notes:
            self._bar.console.print(note, markup=False)
        self._cells = cells
        self._task = self._bar.add_task(experiment, total=cells, completed=done, left="", cell="")

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Move the bar on."""
        assert self._task is not None, "begin comes first"
        estimate = f"{format_seconds(seconds_left)} left" if left else "done"
        self._bar.update(self._task, completed=self._cells - left, left=estimate, cell=description)

"""Shows the progress of a sweep: as a live display on a terminal, or as plain lines in a log."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.reporting.heartbeat import Heartbeat
from harness.schema.plain_text import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from harness.reporting.terminal_console import PlainConsole


@contextmanager
def shown(experiments: int = 1) -> "Iterator[Lines | Terminal]":
    """Yield a live display if standard error is a terminal, and plain lines otherwise."""
    if sys.stderr.isatty():
        from harness.reporting.terminal_console import PlainConsole

        with _bar(PlainConsole(stderr=True)) as bar:
            yield Terminal(bar, experiments)
        return
    with Heartbeat("workers start") as beat:
        lines = Lines(experiments, beat)
        try:
            yield lines
        finally:
            lines.end()


def _bar(console: "PlainConsole") -> "Bar":
    """Return a display that shortens only its last column on a narrow terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    last = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=14),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True)),
        TextColumn("[dim]{task.fields[cell]}", table_column=last),
        console=console,
        expand=True,
    )


def format_seconds(seconds: float) -> str:
    """Return a duration in words, such as ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Lines:
    """Plain lines on standard error, for logs and pipes.

    The lines show the start and the end of each experiment and, every five seconds, its progress.
    """

    def __init__(self, experiments: int = 1, beat: Heartbeat | None = None) -> None:
        self._beat = beat or Heartbeat("")
        self._experiments = experiments
        self._number = 0
        self._name = ""
        self._cells = 0
        self._started: float | None = None

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Print the notes and the first line of the next experiment."""
        self.end()
        for note in notes:
            print(printable(note), file=sys.stderr)
        self._number += 1
        place = f"[{self._number}/{self._experiments}] " if self._experiments > 1 else ""
        saved = f", {done} saved already" if done else ""
        self._name = f"{place}{experiment}"
        print(f"{self._name}: {cells} cells{saved}", file=sys.stderr, flush=True)
        self._started = time.monotonic()
        self._cells = cells
        self._beat.words = f"{self._name}: workers start"
        if cells == done:
            self.end()

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Update the text of the heartbeat; after the last configuration, print the duration."""
        del description
        estimate = f", {format_seconds(seconds_left)} left" if left and seconds_left else ""
        self._beat.words = f"{self._name}: {self._cells - left} of {self._cells} cells{estimate}"
        if not left:
            self.end()

    def end(self) -> None:
        """Print the duration of the experiment, even if it was interrupted."""
        if self._started is not None:
            seconds = format_seconds(time.monotonic() - self._started)
            print(f"{self._name}: {seconds}", file=sys.stderr, flush=True)
        self._started = None


class Terminal:
    """Live display of an experiment: its progress, the time left and the last configuration."""

    def __init__(self, bar: "Bar", experiments: int = 1) -> None:
        self._bar = bar
        self._experiments = experiments
        self._number = 0
        self._task: TaskID | None = None
        self._cells = 0
        self._parts: list[str] = []

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Show the next experiment in place of the previous experiment."""
        for note in notes:
            self._bar.console.print(note, markup=False)
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._number += 1
        self._cells = cells
        place = f"{self._number}/{self._experiments} " if self._experiments > 1 else ""
        cell = "starting workers" if cells > done else ""
        self._task = self._bar.add_task(
            f"{place}{experiment}", total=cells, completed=done, left="", cell=cell
        )

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Advance the bar; show first the settings that differ from the previous configuration."""
        assert self._task is not None, "begin comes first"
        words, colon, result = description.partition(": ")
        last, self._parts = self._parts, words.split(", ")
        ordered = sorted(self._parts, key=lambda part: part in last)
        estimate = f"{format_seconds(seconds_left)} left" if left and seconds_left else ""
        shown = ", ".join(ordered) + colon + result
        self._bar.update(self._task, completed=self._cells - left, left=estimate, cell=shown)

"""Shows the current activity of a command and the elapsed time."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.schema.plain_text import printable


@contextmanager
def shown_progress(
    doing: str = "the step: ", first: str = "PyTorch starts", *, forks: bool = False
) -> Iterator[Callable[[str], None]]:
    """Show the current activity and the elapsed time on standard error.

    On a terminal, one line is updated in place and erased at the end. In a pipe or a log, a new
    line is written every five seconds.

    Args:
        doing: prefix of each text that is passed to the yielded function. An empty text hides the
            line on a terminal until the next call.
        first: text that is shown before the first call.
        forks: True if this process forks. Without a terminal, a forking process shows progress
            without a thread. Call the yielded function before each fork, and while the forked
            processes work.
    """
    if forks and not sys.stderr.isatty():
        from harness.reporting.heartbeat import BeforeForks

        with BeforeForks(doing, first) as lines:
            yield lines.say
        return
    if not sys.stderr.isatty():
        from harness.reporting.heartbeat import Heartbeat

        with Heartbeat(first) as beat:

            def say(words: str) -> None:
                beat.words = f"{doing}{words}" if words else beat.words

            yield say
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from harness.reporting.terminal_console import PlainConsole

    columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    console = PlainConsole(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as line:
        task = line.add_task(first)

        def tell(words: str) -> None:
            if not words:
                line.stop()
                return
            line.update(task, description=f"{doing}{printable(words)}")
            line.start()
            line.refresh()

        yield tell

"""The work of a command and its time: a line that changes, or a line every five seconds."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.schema.plain_text import printable


@contextmanager
def shown_progress(
    doing: str = "the step: ", first: str = "PyTorch starts", *, forks: bool = False
) -> Iterator[Callable[[str], None]]:
    """Show what is done now and for how long.

    On a terminal this is a line that is erased at the end, in a pipe or a log a line every five
    seconds.

    Args:
        doing: words before the words that the yielded function is called with. Called without
            words, the function erases the line until the next call.
        first: words of the line until then.
        forks: True if this process forks others, which one with a thread should not: it is called
            before they are forked, and then while they work.
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

"""Shows the work of a command and its time, in a line that changes or every five seconds."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.schema.plain_text import printable


@contextmanager
def shown_progress(
    doing: str = "the step: ", first: str = "PyTorch starts", *, forks: bool = False
) -> Iterator[Callable[[str], None]]:
    """Show the current work and its duration.

    A terminal shows a line that is erased at the end. A pipe or a log gets a line every five
    seconds.

    Args:
        doing: words before the words that the yielded function receives. A call without words
            erases the line until the next call.
        first: words of the line before the first call.
        forks: True if this process forks, which a process with a thread should not do. The caller
            then calls the function before each fork, and while the forks work.
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

    from harness.reporting.terminal import PlainConsole

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

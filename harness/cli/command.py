"""The click class of all commands, and their exit codes.

Exit code 0 means done, and 1 means an internal error.
"""

import os
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from harness.cli.shared_options import NewFile

DONE = 0
INTERNAL_ERROR = 1
USER_ERROR = 2
"""Exit code for a wrong option, file or value; one line states the error and the allowed values."""
NOT_OK = 3
"""Exit code for an outcome other than ok, such as out of memory or unsupported."""
INTERRUPTED = 130

exit_now = os._exit
"""Python's own ``os._exit``, before ``harness.cli.entry`` replaces it for the user's code."""


class HarnessCommand(click.Command):
    """A click command with ``--debug``; its help shows default values and ends with examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.context_settings.setdefault("show_default", True)
        self.params.append(debug_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; refuse an option with one value that is given twice."""
        _, _, order = self.make_parser(ctx).parse_args(args=[*args])
        for one, other in combinations(dict.fromkeys(order), 2):
            if one.name == other.name:
                raise click.UsageError(f"give {one.opts[0]} or {other.opts[0]}, not both", ctx)
        for option, times in Counter(order).items():
            is_one = isinstance(option, click.Option) and not (option.multiple or option.is_flag)
            if is_one and times > 1:
                name = option.opts[0]
                raise click.UsageError(f"{name} is given {times} times; give it once", ctx)
        words = [*args]
        rest = super().parse_args(ctx, args)
        for option in self.params:
            written = ctx.params.get(option.name or "")
            if isinstance(option.type, NewFile) and written is not None:
                _check_written_once(ctx, option.opts[0], written, words)
        return rest

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples on separate lines, so that each example can be copied."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def _check_written_once(ctx: click.Context, name: str, path: Path, words: list[str]) -> None:
    """Refuse to write a file that another word of the command line names, such as the script."""
    file = os.path.realpath(path)
    named = 0
    for word in words:
        before, _, after = word.partition("=")
        target = word.rpartition(":")[0] or before
        places = {word, after, target, f"{target}.py"} - {"", ".py"}
        named += file in map(os.path.realpath, places)
    if named > 1:
        problem = f"the command line also names {path} elsewhere, and {name} would overwrite it"
        raise click.UsageError(f"{name}: {problem}; give a new file", ctx)


def harness_command(
    *examples: str, **settings: Any
) -> Callable[[Callable[..., Any]], HarnessCommand]:
    """Return a decorator that turns a function into a command; its help ends with ``examples``."""
    return click.command(examples=examples, **{"cls": HarnessCommand, **settings})


def debug_option() -> click.Option:
    """Return the flag ``--debug``; ``harness.cli.app.main`` reads it from the arguments."""
    help_text = "Show the traceback of an internal error."
    return click.Option(["--debug"], is_flag=True, expose_value=False, help=help_text)

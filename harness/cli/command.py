"""The click class of all commands, and their exit codes.

Exit code 0 means done, and 1 means an internal error.
"""

import os
from collections.abc import Callable
from typing import Any

import click

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

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples on separate lines, so that each example can be copied."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def harness_command(
    *examples: str, **settings: Any
) -> Callable[[Callable[..., Any]], HarnessCommand]:
    """Return a decorator that turns a function into a command; its help ends with ``examples``."""
    return click.command(examples=examples, **{"cls": HarnessCommand, **settings})


def debug_option() -> click.Option:
    """Return the flag ``--debug``; ``harness.cli.app.main`` reads it from the arguments."""
    help_text = "Show the traceback of an internal error."
    return click.Option(["--debug"], is_flag=True, expose_value=False, help=help_text)

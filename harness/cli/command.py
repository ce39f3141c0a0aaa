"""The form that all commands share: ``--debug``, defaults that are shown, examples at the end."""

from collections.abc import Sequence
from typing import Any

import click


class HarnessCommand(click.Command):
    """A click command that takes ``--debug``, shows every default and ends its help in examples."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.context_settings.setdefault("show_default", True)
        self.params.append(debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, one a line, so that each can be copied."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def debug_option() -> click.Option:
    """Return the flag ``--debug``; ``harness.cli.app.main`` reads it from the arguments."""
    help_text = "Show the traceback of an internal error."
    return click.Option(["--debug"], is_flag=True, expose_value=False, help=help_text)

"""The arguments of a command that runs a module, parsed as Python parses them."""

from collections.abc import Collection, Sequence

import click

from harness.cli.command import HarnessCommand


class RunsModules(HarnessCommand):
    """A command whose options end as Python's do, at the name of a module or script."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; the words after ``-m NAME`` belong to the module."""
        flags = {
            name
            for one in self.params
            if isinstance(one, click.Option) and one.is_flag
            for name in one.opts
        }
        return super().parse_args(ctx, ended_at_module(args, flags))


def ended_at_module(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """Return the words of a command line with ``--`` after a module's name.

    Args:
        words: the command line.
        flags: the options without a value.
    """
    place = 0
    while place < len(words) and words[place].startswith("-") and words[place] != "--":
        word = words[place]
        if word.startswith("-m"):
            end = place + (2 if word == "-m" else 1)
            is_ended = list(words[end : end + 1]) in (["--"], [])
            return [*words[:end], *([] if is_ended else ["--"]), *words[end:]]
        place += 1 if "=" in word or word in flags else 2
    return list(words)

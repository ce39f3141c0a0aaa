"""Parses ``-m NAME``: all words after the name belong to the module, as in Python itself."""

from collections.abc import Collection, Sequence

import click

from harness.cli.command import HarnessCommand


class RunsModules(HarnessCommand):
    """A command whose options end at the name of a module or script, as in ``python -m NAME``."""

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
    """Return a command line with ``--`` inserted after the name that follows ``-m``.

    Args:
        words: words of the command line.
        flags: names of the options that have no value.
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

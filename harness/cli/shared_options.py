"""Options that several commands share, such as ``--experiment`` and ``--force``."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from harness.cli.parameter_types import SECONDS

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


def all_of(*options: Decorator) -> Decorator:
    """Return a decorator that adds the options to a command, in the given order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def gathered(kind: type, name: str, *options: Decorator) -> Decorator:
    """Return a decorator that adds options, and passes their values as one ``kind`` object."""

    def add(command: Command) -> Command:
        @wraps(command)
        def called(**given: Any) -> Any:
            values = {item.name: given.pop(item.name) for item in fields(kind)}
            return command(**{name: kind(**values)}, **given)

        return all_of(*options)(called)

    return add


what_if_option = click.option(
    "--what-if",
    "settings",
    metavar="SETTINGS",
    help="Replay the recording with these allocator settings, in PYTORCH_ALLOC_CONF syntax.",
)

replay_deadline = click.option(
    "--deadline",
    type=SECONDS,
    default=60.0,
    help="Maximum CPU time for reading and replaying a recording, in seconds.",
)

deadline_option = click.option(
    "--deadline",
    type=SECONDS,
    default=600,
    help="Number of seconds after which a worker process is stopped.",
)

force_option = click.option(
    "--force",
    is_flag=True,
    help="Run a step even if it needs more memory than this machine has available.",
)


experiment_files = click.option(
    "--experiment",
    "given",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File of an experiment in FOLDER, if the harness does not find the file; may be given "
    "several times.",
)


class NewFile(click.Path):
    """Type of an option for the path of a new file, whose folder must exist."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; raise a usage error if its folder does not exist."""
        if not Path(value).parent.is_dir():
            raise click.UsageError(f"cannot write {value}: there is no folder {Path(value).parent}")
        return super().convert(value, param, ctx)


def file_option(*names: str, help_text: str) -> Decorator:
    """Return an option whose value is a file to write."""
    path = NewFile(dir_okay=False, writable=True, path_type=Path)
    return click.option(*names, type=path, metavar="FILE", help=help_text)

"""Options that several commands share: a GPU that is described, and how long a replay may take."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from harness.cli.parameter_types import SECONDS, SIZE

Command = TypeVar("Command", bound=Callable[..., Any])

_DESCRIPTION = (
    click.option(
        "--capability",
        metavar="M.N",
        help="Compute capability of a GPU that is not in the built-in list, e.g. 9.0.",
    ),
    click.option("--memory", type=SIZE, help="Total memory of that GPU, e.g. 80GiB."),
    click.option(
        "--alloc-conf",
        default="",
        metavar="SETTINGS",
        help="Settings of the CUDA allocator, as in PYTORCH_ALLOC_CONF.",
    ),
)


def gpu_description(command: Command) -> Command:
    """Add the options that describe a GPU and its allocator."""
    for option in reversed(_DESCRIPTION):
        command = option(command)
    return command


replay_deadline = click.option(
    "--deadline",
    type=SECONDS,
    default=60.0,
    show_default=True,
    help="Refuse a recording that takes longer than this many seconds.",
)

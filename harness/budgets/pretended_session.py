"""Starts a session of pytest again on a pretended GPU, for ``pytest --pretend-gpu l4``.

A process must be started with the stub of CUDA, so the session cannot begin to pretend a GPU. The
process is replaced by ``python -m harness dry-run -m pytest`` before a ``conftest.py`` is imported.
"""

import os
import sys
from collections.abc import Sequence

OPTIONS = ("--pretend-gpu", "--pretend-gpus")
FLAG = "--unknown-passes"
_STATUS = "HARNESS_DRY_RUN_STATUS"
"""Variable that is set in each process on a pretended GPU."""


def is_pretended() -> bool:
    """Return whether this process runs on a pretended GPU."""
    return _STATUS in os.environ


def start_again(options: Sequence[str], arguments: Sequence[str]) -> None:
    """Replace this process by the session on the pretended GPU.

    Args:
        options: options of ``harness dry-run``.
        arguments: the session's arguments.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command(options, arguments))


def command(options: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the command of the session on the pretended GPU.

    >>> command(["--gpu", "l4"], ["-q", "--pretend-gpu", "l4", "tests"])[1:]
    ['-m', 'harness', 'dry-run', '--gpu', 'l4', '-m', 'pytest', '-q', 'tests']
    """
    rest = without_options(arguments)
    return [sys.executable, "-m", "harness", "dry-run", *options, "-m", "pytest", *rest]


def without_options(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the options of this module.

    >>> without_options(["--pretend-gpu=l4", "-x", "--pretend-gpus", "2", "tests"])
    ['-x', 'tests']
    """
    kept, skips = list[str](), False
    for argument in arguments:
        name, joined, _ = argument.partition("=")
        if not skips and name not in (*OPTIONS, FLAG):
            kept.append(argument)
        skips = not skips and name in OPTIONS and not joined
    return kept

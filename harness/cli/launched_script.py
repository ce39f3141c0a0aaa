"""Finds the script in a command such as ``python train.py`` or ``torchrun train.py``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

_PYTHON = re.compile(r"python(3(\.\d+)?)?")
_PYTHON_FLAG = re.compile(r"-[BbdEIOPqsSuv]+")
TORCHRUN = "torch.distributed.run"
_TORCHRUN_FLAGS = ("standalone", "m", "module", "run-path")
_SET_MORE = ("accelerate", "deepspeed", "horovodrun", "mpiexec", "mpirun", "srun")


@dataclass(frozen=True, kw_only=True)
class LaunchedScript:
    """A script or module, its arguments, and the number of ranks that its launcher would start."""

    words: tuple[str, ...]
    is_module: bool = False
    nodes: int = 1
    ranks_of_node: int | None = None
    """Number of ranks on each node; None if the command does not start ranks."""


def launched_script(words: Sequence[str], gpus: int, *, is_module: bool = False) -> LaunchedScript:
    """Return the script that a command starts, with or without a launcher such as torchrun.

    Args:
        words: words of the command.
        gpus: number of GPUs of a node; ``--nproc-per-node gpu`` means this number of ranks.
        is_module: True if the first word is a module's name.

    Raises:
        click.UsageError: the command starts no script, or its launcher is not supported.
    """
    name = TORCHRUN if words[0] == "torchrun" else Path(words[0]).name
    if is_module or name == TORCHRUN:
        return _of_torchrun(words[1:], gpus) if name == TORCHRUN else _module(words)
    if name == "accelerate" and "launch" in words[1:2]:
        return _module([f"{name}.commands.launch", *words[2:]])
    if name in _SET_MORE:
        raise click.UsageError(
            f"{name} is not read, because it may set more than ranks; set its variables"
            " yourself and run one rank: harness dry-run --world-size N -- train.py"
        )
    if not _PYTHON.fullmatch(name):
        return LaunchedScript(words=tuple(words))
    rest = [*words[1:]]
    while rest and _PYTHON_FLAG.fullmatch(rest[0]):
        del rest[0]
    if rest[:1] == ["-m"] and rest[1:]:
        return launched_script(rest[1:], gpus, is_module=True)
    _check_script(words, rest)
    return LaunchedScript(words=tuple(rest))


def _module(words: Sequence[str]) -> LaunchedScript:
    return LaunchedScript(words=tuple(words), is_module=True)


def _check_script(words: Sequence[str], rest: Sequence[str]) -> None:
    if not rest or rest[0].startswith("-"):
        given = " ".join(words)[:80]
        raise click.UsageError(f"give a script to run, e.g. {words[0]} train.py, got {given!r}")


def _of_torchrun(words: Sequence[str], gpus: int) -> LaunchedScript:
    """Read the number of ranks from torchrun's options; other options do not change memory."""
    rest, is_module, nodes, ranks = [*words], False, "1", "1"
    while rest and rest[0].startswith("-"):
        name, is_joined, value = rest.pop(0).lstrip("-").replace("_", "-").partition("=")
        is_module = is_module or name in ("m", "module")
        if name not in _TORCHRUN_FLAGS:
            value = value if is_joined or not rest else rest.pop(0)
        if name.startswith("nn"):  # torchrun, too, takes the beginning of an option for it
            nodes = value.rpartition(":")[2]
        elif name.startswith("np"):
            ranks = str(gpus) if value in ("auto", "gpu") else value
    _check_script(["torchrun"], rest)
    if not (nodes.isdecimal() and ranks.isdecimal() and int(nodes) * int(ranks)):
        raise click.UsageError(f"torchrun needs whole numbers of ranks, got {nodes!r}, {ranks!r}")
    return LaunchedScript(
        words=tuple(rest), is_module=is_module, nodes=int(nodes), ranks_of_node=int(ranks)
    )

"""Suggestions for the next command, built from the arguments of the current command."""

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.schema.memory_fit import GpuFit

_OF_THE_OUTPUT = ("--html", "--json", "--check")
_NOT_OF_NEXT_RUN = (*_OF_THE_OUTPUT, "--snapshot", "-m")
_NOT_OF_PLAN = ("--device", "--method", "--torch")
_NOT_OF_PREDICT = ("--device", "--deadline", "--events", "--gpu")
_NOT_OF_LARGEST = ("--resume", "--resume-with")
_FLAGS = ("--json", "--check", "--offline", "--resume")


def typed() -> tuple[str, ...]:
    """Return this call's arguments without output options such as ``--json``."""
    arguments = click.get_current_context().find_root().obj or ()
    return without(arguments, _OF_THE_OUTPUT)


def after_prediction(arguments: Sequence[str], fit: "GpuFit | None") -> list[str]:
    """Return commands that predict the largest batch, compare GPUs, or list helpful changes."""
    if fit is None:
        return [_line([*without(arguments, ("--device",)), "--gpu", "l4"])]
    if fit.verdict != "fits":
        plan = ["plan", *without(arguments, _NOT_OF_PLAN)[1:]]
        return [_line(plan), _line([*without(arguments, ("--gpu",)), "--gpu", "all"])]
    at_most = [*without(arguments, ("--batch",)), "--batch", str(fit.largest_batch)]
    others = [*without(arguments, ("--gpu",)), "--gpu", "all"]
    return [*[_line(at_most)] * bool(fit.largest_batch), _line(others)]


def after_measurement(arguments: Sequence[str]) -> list[str]:
    """Return the command that predicts the measured step on a GPU."""
    return [_line(["predict", *without(arguments[1:], _NOT_OF_PREDICT), "--gpu", "l4"])]


def after_dry_run(command: Sequence[str], before: Sequence[str], module: str | None) -> list[str]:
    """Return a command that records and explains a snapshot.

    Before it, return a command that finds the largest batch if an option of the script sets the
    batch size; the script's other options are kept.

    Args:
        command: words of the launcher, the script and its arguments, as typed.
        before: the words of ``command`` before the script's own arguments.
        module: module name of ``-m``; None without ``-m``.
    """
    given: Sequence[str] = click.get_current_context().find_root().obj or ()
    options = given[: len(given) - len(command)]
    kept = [one for one in without(options, _NOT_OF_NEXT_RUN) if one != "--"]
    named = [*(["-m", module] if module else []), "--"]
    recorded = [*kept, "--snapshot", "run.pickle", *named, *command]
    explained = f"{_line(recorded)}; harness explain run.pickle"
    varied = _with_any_batch(command[len(before) :])
    if varied is None:
        return [explained]
    searched = [*without(kept, _NOT_OF_LARGEST), "--largest", "batch", *named, *before, *varied]
    return [_line(searched), explained]


def _with_any_batch(arguments: Sequence[str]) -> list[str] | None:
    """Replace the value of the option for the batch size by ``{}``; None without such an option.

    >>> _with_any_batch(["--compile", "--batch-size=32", "data"])
    ['--compile', '--batch-size={}', 'data']
    """
    for at, argument in enumerate(arguments):
        name, joined, value = argument.partition("=")
        if not re.match(r"-*[\w.-]*(?:batch|\bbs\b)", name) or "eval" in name:
            continue
        if joined and value.isdecimal():
            return [*arguments[:at], f"{name}={{}}", *arguments[at + 1 :]]
        following = arguments[at + 1 : at + 2]
        if name.startswith("-") and following and following[0].isdecimal():
            return [*arguments[: at + 1], "{}", *arguments[at + 2 :]]
    return None


def without(arguments: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments without the named options and without their values."""
    kept, skip = [], False
    for argument in arguments:
        name, joined, _ = argument.partition("=")
        if not skip and name not in names:
            kept.append(argument)
        skip = not skip and name in names and not joined and name not in _FLAGS
    return tuple(kept)


def _line(arguments: Sequence[str]) -> str:
    return shlex.join(["harness", *arguments])

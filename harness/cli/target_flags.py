"""The flags that describe a user's own network, shared by ``predict`` and ``plan``."""

import ast
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from harness.cli.parameter_types import ChoicesOrTarget
from harness.schema.input_spec import InputSpec, parse_input
from harness.schema.module_request import LOSSES, OPTIMIZERS

Command = TypeVar("Command", bound=Callable[..., Any])

_FLAGS = (
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="SPEC",
        help="Input of TARGET as [NAME=][TYPE:]SHAPE, without the batch; may be given several "
        "times.",
    ),
    click.option(
        "--inputs",
        "inputs_from",
        metavar="MODULE:CALLABLE",
        help="Function of the batch that returns TARGET's input and labels.",
    ),
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        metavar="NAME=VALUE",
        help="Argument of TARGET's constructor; may be given several times.",
    ),
    click.option(
        "--loss",
        type=ChoicesOrTarget(LOSSES),
        default="cross-entropy",
        show_default=True,
        help="Loss of TARGET; also MODULE:CALLABLE of output and labels.",
    ),
)


def target_flags(command: Command) -> Command:
    """Add the flags to a command."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def step_of(
    *,
    inputs: Sequence[str],
    inputs_from: str | None,
    optimizer: str,
    loss: str,
    autocast: str | None,
    mode: str = "train",
) -> dict[str, Any]:
    """Return the flags as arguments of ``harness.predict``."""
    return {
        "inputs": _inputs([parse_input(text) for text in inputs], inputs_from, mode),
        "optimizer": _named(optimizer, OPTIMIZERS),
        "loss": _named(loss, LOSSES),
        "autocast": autocast,
    }


def arguments_of(texts: Sequence[str]) -> dict[str, object]:
    """Return the arguments NAME=VALUE; a value that is no Python literal is a string."""
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise click.UsageError(f"--arg must be NAME=VALUE, got {text!r}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def _named(name: str, known: Sequence[str]) -> Any:
    """Return a known name, or what MODULE:CALLABLE names."""
    from harness.training.load_target import load_target

    return name if name in known else load_target(name)


def _inputs(specs: Sequence[InputSpec], source: str | None, mode: str) -> Any:
    from harness.training.example_inputs import example_inputs
    from harness.training.load_target import load_target

    if source is not None:
        return load_target(source)
    if not specs:
        raise click.UsageError("give --input SHAPE, e.g. 3x224x224, or --inputs MODULE:CALLABLE")
    return example_inputs(specs, with_labels=mode == "train")

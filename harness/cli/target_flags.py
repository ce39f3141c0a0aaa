"""The flags that describe a user's own network, shared by ``predict`` and ``plan``."""

import ast
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from harness.cli.exit_codes import NOT_OK
from harness.cli.gpu_options import Command, with_options
from harness.cli.parameter_types import ChoicesOrTarget
from harness.schema.input_spec import InputSpec, parse_input
from harness.schema.module_request import LOSSES, OPTIMIZERS
from harness.schema.plain_text import printable

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


@dataclass(frozen=True, kw_only=True)
class TargetFlags:
    """What the flags say of a network.

    Attributes:
        inputs: each input as ``--input`` describes it.
        inputs_from: MODULE:CALLABLE that makes inputs and labels instead.
        arguments: arguments of the network's constructor, as NAME=VALUE.
        loss: a known loss, or MODULE:CALLABLE.

    """

    inputs: tuple[str, ...]
    inputs_from: str | None
    arguments: tuple[str, ...]
    loss: str

    def are_given(self) -> bool:
        """Return whether any flag but the loss, which has a default, is given."""
        return bool(self.inputs or self.inputs_from or self.arguments)

    def builder(self, target: str) -> Callable[[], Any]:
        """Return the function that builds ``target`` with its arguments."""
        from harness.training.load_target import builder_of

        return builder_of(target, dict(map(_argument, self.arguments)))

    def step(self, *, optimizer: str, autocast: str | None, mode: str = "train") -> dict[str, Any]:
        """Return the flags as arguments of ``harness.predict``."""
        specs = [parse_input(text) for text in self.inputs]
        return {
            "inputs": _inputs(specs, self.inputs_from, mode),
            "optimizer": _named(optimizer, OPTIMIZERS),
            "loss": _named(self.loss, LOSSES),
            "autocast": autocast,
        }


def target_flags(command: Command) -> Command:
    """Add the flags to a command, which receives them together as ``network``."""
    return with_options(_FLAGS, TargetFlags, "network", command)


def report_unsupported(error: Exception, target: str, *, as_json: bool) -> int:
    """Print why ``target`` cannot be predicted; return the exit code."""
    reason = str(error).removeprefix("unsupported: ")
    text = json.dumps({"outcome": "unsupported", "target": target, "reason": reason})
    click.echo(text if as_json else printable(f"unsupported: {reason}"))
    return NOT_OK


def _argument(text: str) -> tuple[str, object]:
    """Return name and value of NAME=VALUE; a value that is no Python literal is a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.UsageError(f"--arg must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _named(name: str, known: Sequence[str]) -> Any:
    """Return ``name`` itself if it is known, else the object that MODULE:CALLABLE names."""
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

"""The flags that describe a user's own network, shared by ``predict``, ``plan`` and ``profile``."""

from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import NOT_OK
from harness.cli.json_answer import print_json
from harness.cli.parameter_types import Choices, ChoicesOrTarget
from harness.cli.shared_options import Command, gathered
from harness.schema.errors import UnsupportedError
from harness.schema.plain_text import printable
from harness.schema.step_choices import COMPILE_MODES, LOSSES, OPTIMIZERS

if TYPE_CHECKING:
    from harness.schema.step import Step


@dataclass(frozen=True, kw_only=True)
class TargetFlags:
    """The flags that describe a network, as the help of each says."""

    inputs: tuple[str, ...]
    inputs_from: str | None
    arguments: tuple[str, ...]
    answers: tuple[str, ...]
    loss: str

    def are_given(self) -> bool:
        """Return whether any flag but the loss, which has a default, is given."""
        return bool(self.inputs or self.inputs_from or self.arguments or self.answers)

    def with_default_input(self, spec: str) -> "TargetFlags":
        """Return the flags with ``spec`` as the input where none is given."""
        return self if self.inputs or self.inputs_from else replace(self, inputs=(spec,))

    def step(self, target: str, **others: Any) -> "Step":
        """Return the step of ``target``; ``others`` holds its fields that are no target flags."""
        from harness.dry_runs.dry_run_request import check_answers, parse_answer
        from harness.schema.step import Step
        from harness.schema.step_request import parse_argument
        from harness.schema.target_name import hub_of, parts_of_name

        parts_of_name(target)
        inputs = self.inputs or self.inputs_from
        if not (inputs or hub_of(target)):
            raise click.UsageError(
                "give --input SHAPE, e.g. 3x224x224, or --inputs MODULE:CALLABLE"
            )
        answers = dict(map(parse_answer, self.answers))
        check_answers(answers)
        return Step(
            target,
            inputs=inputs or None,
            arguments=dict(map(parse_argument, self.arguments)),
            answers=answers,
            loss=self.loss,
            **others,
        )


_network = gathered(
    TargetFlags,
    "network",
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
        "--answer",
        "answers",
        multiple=True,
        metavar="[FILE:LINE=]ANSWER",
        help="Value that TARGET reads from the GPU, if it cannot be known: a number; for a mask "
        "all, none or a fraction.",
    ),
    click.option(
        "--loss",
        type=ChoicesOrTarget(LOSSES),
        default="cross-entropy",
        help="Loss of TARGET; also MODULE:CALLABLE of output and labels.",
    ),
)


def target_flags(command: Command) -> Command:
    """Add the flags to a command, which receives them as ``network``.

    A TARGET that cannot be predicted is said to be unsupported, with exit code 3.
    """

    @wraps(command)
    def called(**given: Any) -> Any:
        try:
            return command(**given)
        except UnsupportedError as error:
            target = given["target"]
            if target is None:
                raise
            reason = str(error).removeprefix("unsupported: ")
            facts = {"outcome": "unsupported", "target": target, "reason": reason}
            if given["as_json"]:
                print_json(facts, "unsupported")
            else:
                click.echo(printable(f"unsupported: {reason}"))
            return NOT_OK

    return _network(called)


optimizer_option = click.option(
    "--optimizer",
    type=ChoicesOrTarget(OPTIMIZERS),
    default="sgd",
    help="Optimizer; also MODULE:CALLABLE of the parameters.",
)

compile_option = click.option(
    "--compile",
    "compile_mode",
    type=Choices(COMPILE_MODES),
    is_flag=False,
    flag_value=COMPILE_MODES[0],
    metavar="[MODE]",
    help="Compile TARGET by torch.compile; MODE is default, max-autotune-no-cudagraphs, aot_eager, "
    "eager, or on the CPU reduce-overhead or max-autotune.",
)

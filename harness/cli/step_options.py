"""Options that describe a step of your own network, of a hub's network or of an MLP."""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import NOT_OK
from harness.cli.json_answer import print_json
from harness.cli.parameter_types import Choices, WholeNumber
from harness.cli.shared_options import Command, all_of
from harness.cli.step_types import INPUT, WIDTHS, ChoicesOrTarget
from harness.schema.errors import UnsupportedError, did_you_mean
from harness.schema.plain_text import printable
from harness.schema.run_outcome import Outcome
from harness.schema.step_choices import COMPILE_MODES, LOSSES, MODES, OPTIMIZERS
from harness.schema.target_name import mlp_of
from harness.schema.workload import AUTOCAST_DTYPES, MAX_SIZE, Workload, WorkloadError

if TYPE_CHECKING:
    from harness.schema.step import Step

BATCH = 32
"""Default batch size of a network other than an MLP."""
_SHARED = (
    "batch", "optimizer", "mode", "autocast", "accumulate", "classes", "threads", "device",
)  # fmt: skip
"""Options that apply to an MLP and to every other network."""
_OF_MLP = tuple(one for one in fields(Workload) if one.name not in _SHARED)
_HINTS: Mapping[str, str] = tomllib.loads(
    Path(__file__).with_name("option_hints.toml").read_text("utf-8")
)["with-target"]


@dataclass(frozen=True, kw_only=True)
class StepFlags:
    """Options of a step from the command line; an option that is not given is None or empty."""

    target: str | None
    batch: int | None
    inputs: tuple[str, ...]
    inputs_from: str | None
    arguments: tuple[str, ...]
    answers: tuple[str, ...]
    loss: str | None
    optimizer: str | None
    classes: int | None
    mode: str | None
    autocast: str | None
    accumulate: int | None
    compile_mode: str | None
    threads: int | None
    device: str | None
    mlp: Mapping[str, Any]

    def workload(self, *, on_cuda: bool = False, **values: Any) -> Workload | None:
        """Return the workload of an MLP; None if TARGET is another network.

        Args:
            on_cuda: True if the options name a GPU; the default device is then CUDA.
            values: workload fields that replace the user's options.
        """
        named = {} if self.target is None else mlp_of(self.target)
        if named is None:
            self._refuse(self.mlp, _HINTS)
            return None
        of_network = {
            "input": self.inputs, "inputs": self.inputs_from, "loss": self.loss,
            "compile": self.compile_mode, "answer": self.answers,
        }  # fmt: skip
        given = [name for name, value in of_network.items() if value]
        if given:
            rule = (
                "needs a TARGET"
                if self.target is None
                else f"does not apply to {self.target}; give a network"
            )
            raise click.UsageError(f"--{given[0]} {rule}, e.g. my_model.py:Net")
        typed = {name: getattr(self, name) for name in _SHARED} | dict(self.mlp) | self._arguments()
        typed = {name: value for name, value in typed.items() if value is not None}
        if twice := sorted(set(named) & set(typed)):
            flag = "--" + twice[0].replace("_", "-")
            raise click.UsageError(f"{flag} is already given in {self.target}; leave it out")
        if on_cuda and "device" not in typed:
            typed["device"] = "cuda"
        return workload_from({**named, **typed, **values})

    def _arguments(self) -> dict[str, Any]:
        """Return the fields of an MLP's workload that ``--arg`` sets."""
        from harness.schema.step_request import parse_argument

        found = dict(map(parse_argument, self.arguments))
        known = [one.name for one in _OF_MLP]
        for name in found:
            if name not in known:
                rule = f"an MLP has no argument {name!r}{did_you_mean(name, known)}"
                raise click.UsageError(f"--arg: {rule}; it has {', '.join(known)}")
        if isinstance(found.get("hidden"), int):
            found["hidden"] = (found["hidden"],)
        return found

    def step(self, **others: Any) -> "Step":
        """Return the step of TARGET; ``others`` replaces the user's options, except for an MLP."""
        from harness.dry_runs.value_answers import check_answers, parse_answer
        from harness.schema.step import Step
        from harness.schema.step_request import parse_argument
        from harness.schema.target_name import check_target_name, hub_of

        workload = self.workload(on_cuda=True)
        if workload is not None:
            from harness.planning.workload_step import step_of

            return step_of(workload)
        target = str(self.target)
        if hub_of(target) is None:
            check_target_name(target)
        inputs = self.inputs or self.inputs_from
        if not (inputs or hub_of(target)):
            raise click.UsageError(
                "give --input SHAPE, e.g. 3x224x224, or --inputs MODULE:CALLABLE"
            )
        answers = dict(map(parse_answer, self.answers))
        check_answers(answers)
        typed = {name: getattr(self, name) for name in _SHARED if name != "device"}
        typed |= {
            "compile": self.compile_mode,
            "loss": self.loss,
        }
        typed["batch"] = BATCH if self.batch is None else self.batch
        return Step(
            target,
            inputs=inputs or None,
            arguments=dict(map(parse_argument, self.arguments)),
            answers=answers,
            **{name: value for name, value in typed.items() if value is not None} | others,
        )

    @staticmethod
    def _refuse(given: Mapping[str, Any], hints: Mapping[str, str]) -> None:
        refuse_with_target({name for name, value in given.items() if value is not None}, hints)


def refuse_with_target(names: set[str], hints: Mapping[str, str] = _HINTS) -> None:
    """Raise a usage error for options that apply only to an MLP; the error gives a hint."""
    for name in sorted(names):
        flag = "--" + name.replace("_", "-")
        hint = hints.get(name, hints["else"]).format(name=name, flag=flag)
        raise click.UsageError(f"{flag} cannot be given with a TARGET; {hint}")


def workload_from(values: dict[str, Any]) -> Workload:
    """Return the workload with these fields; check ``hidden`` against depth and width."""
    if "hidden" in values:
        layers = len(values["hidden"])
        if values.get("depth", layers) != layers:
            rule = f"{layers}, the number of widths in --hidden"
            raise WorkloadError("depth", values["depth"], rule)
        if "width" in values:
            raise WorkloadError("width", values["width"], "left out when --hidden is given")
    return Workload(**values)


def _mlp_flag(item: "dataclasses.Field[Any]") -> Any:
    """Return the option for one field of an MLP; the help does not list this option."""
    if "choices" in item.metadata:
        kind: click.ParamType[Any] = Choices(item.metadata["choices"])
    elif item.name == "hidden":
        kind = WIDTHS
    else:
        kind = click.FLOAT if "share" in item.metadata else WholeNumber()
    name = "--" + item.name.replace("_", "-")
    return click.option(name, item.name, type=kind, help=item.metadata["help"], hidden=True)


_options = all_of(
    click.argument("target", required=False, metavar="[TARGET]"),
    click.option("--batch", type=WholeNumber(), help=f"Batch size.  [{BATCH}; 256 for an MLP]"),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        type=INPUT,
        metavar="SPEC",
        help="Input of TARGET as [NAME=][TYPE:]SHAPE, without batch size; may be given several "
        "times.",
    ),
    click.option(
        "--inputs",
        "inputs_from",
        metavar="MODULE:CALLABLE",
        help="Function that takes the batch size and returns TARGET's input and labels.",
    ),
    click.option(
        "--arg",
        "arguments",
        multiple=True,
        metavar="NAME=VALUE",
        help="Argument of TARGET's constructor, or of an MLP, such as activation=gelu; may be "
        "given several times.",
    ),
    click.option(
        "--answer",
        "answers",
        multiple=True,
        metavar="[FILE:LINE=]ANSWER",
        help="Number that TARGET reads at FILE:LINE if the GPU value is unknown. For a mask also "
        "all, none or a fraction.",
    ),
    click.option(
        "--loss",
        type=ChoicesOrTarget(LOSSES, "of output and labels"),
        help="Loss of TARGET; also MODULE:CALLABLE that takes output and labels.  [cross-entropy]",
    ),
    click.option(
        "--optimizer",
        type=ChoicesOrTarget(OPTIMIZERS, "of the parameters"),
        help="Optimizer; except for an MLP, also MODULE:CALLABLE that takes the parameters.  [sgd]",
    ),
    click.option("--classes", type=WholeNumber(1, MAX_SIZE), help="Number of label classes."),
    click.option(
        "--mode",
        type=Choices(MODES),
        help="A training step, or a forward pass without gradients.  [train]",
    ),
    click.option(
        "--autocast", type=Choices(AUTOCAST_DTYPES), help="Autocast dtype of the forward pass."
    ),
    click.option(
        "--accumulate", type=WholeNumber(), help="Number of micro-batches of a step.  [1]"
    ),
    click.option(
        "--compile",
        "compile_mode",
        type=Choices(COMPILE_MODES),
        is_flag=False,
        flag_value=COMPILE_MODES[0],
        metavar="[MODE]",
        help="Compile TARGET with torch.compile. MODE is default, max-autotune-no-cudagraphs, "
        "aot_eager or eager; on the CPU also reduce-overhead or max-autotune.",
    ),
    click.option("--threads", type=WholeNumber(), help="Number of CPU threads per operation.  [1]"),
    click.option(
        "--device",
        type=Choices(("cpu", "cuda")),
        help="Device of the step; cuda is a pretended GPU if the machine has no GPU.  [cpu; cuda "
        "with --gpu]",
    ),
    *map(_mlp_flag, _OF_MLP),
)


def step_options(command: Command) -> Command:
    """Add TARGET and its options to a command; the command receives them as ``asked``.

    If TARGET cannot be predicted, the command prints "unsupported" and ends with exit code 3.
    """

    @wraps(command)
    def called(**given: Any) -> Any:
        mlp = {one.name: given.pop(one.name) for one in _OF_MLP}
        own = {one.name: given.pop(one.name) for one in fields(StepFlags) if one.name != "mlp"}
        asked = StepFlags(**own, mlp={k: v for k, v in mlp.items() if v is not None})
        try:
            return command(asked=asked, **given)
        except UnsupportedError as error:
            if asked.target is None:
                raise
            reason = str(error).removeprefix("unsupported: ")
            facts = {"outcome": "unsupported", "target": asked.target, "reason": reason}
            if given["as_json"]:
                print_json(facts, Outcome.UNSUPPORTED)
            else:
                click.echo(printable(f"unsupported: {reason}"))
            return NOT_OK

    return _options(called)

"""``harness profile``: one step of any module, traced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.parameter_types import SHAPE, Choices, WholeNumber
from harness.cli.worker_options import deadline_option
from harness.schema.module_request import INPUT_TYPES, LOSSES, MODES, OPTIMIZERS
from harness.schema.plain_text import json_text

Command = TypeVar("Command", bound=Callable[..., Any])


def _file_option(name: str, help_text: str) -> Callable[[Command], Command]:
    path = click.Path(dir_okay=False, writable=True, path_type=Path)
    return click.option(name, type=path, metavar="FILE", help=help_text)


@click.command(
    cls=HarnessCommand,
    examples=[
        "harness profile torchvision.models:resnet18 --input 3x64x64 --batch 8",
        "harness profile torchvision.models:resnet18 --optimizer adam --timeline step.svg",
    ],
)
@click.argument("target", metavar="MODULE:CALLABLE")
@click.option(
    "--input",
    "input_shape",
    type=SHAPE,
    default="3x224x224",
    show_default=True,
    help="Shape of one example, without the batch dimension.",
)
@click.option(
    "--input-type",
    type=Choices(INPUT_TYPES),
    default="float32",
    show_default=True,
    help="Data type of the input; int64 for token ids.",
)
@click.option(
    "--batch", type=WholeNumber(1, 2**31 - 1), default=32, show_default=True, help="Batch size."
)
@click.option(
    "--optimizer", type=Choices(OPTIMIZERS), default="sgd", show_default=True, help="Optimizer."
)
@click.option(
    "--loss", type=Choices(LOSSES), default="cross-entropy", show_default=True, help="Loss."
)
@click.option("--classes", type=WholeNumber(1), help="Number of label classes.")
@click.option(
    "--mode",
    type=Choices(MODES),
    default="train",
    show_default=True,
    help="A training step, or a forward pass without gradients.",
)
@click.option(
    "--threads",
    type=WholeNumber(1, 4096),
    default=1,
    show_default=True,
    help="Number of CPU threads per operation.",
)
@deadline_option
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one line of JSON.")
@_file_option("--events", "Write the allocation events to FILE as CSV.")
@_file_option("--chrome", "Write a trace for Chrome or Perfetto to FILE.")
@_file_option("--snapshot", "Write a pickle for PyTorch's memory viewer to FILE.")
@_file_option(
    "--timeline",
    "Write an HTML page of the step's memory to FILE; only its figure if FILE ends in .svg.",
)
def profile(
    deadline: float,
    as_json: bool,
    events: Path | None,
    chrome: Path | None,
    snapshot: Path | None,
    timeline: Path | None,
    **asked: Any,
) -> int:
    """Trace the memory of one step of any torch.nn.Module.

    CALLABLE returns the module, e.g. torchvision.models:resnet18. The step runs on the CPU in a
    process of its own.
    """
    import msgspec

    from harness.profiling.profile import profile as run
    from harness.profiling.profile_text import print_profile, write_exports
    from harness.schema.module_request import checked

    result, trace = run(checked(**asked), deadline_seconds=deadline)
    if trace is not None:  # before anything is printed: the reader of a pipe may go away
        of = result.request
        title = f"{of.target}, batch {of.batch}, {of.mode}, {of.optimizer}"
        write_exports(
            trace, events=events, chrome=chrome, snapshot=snapshot, timeline=timeline, title=title
        )
    if as_json:
        click.echo(json_text(msgspec.json.encode(result)))
    else:
        print_profile(result, trace)
    return NOT_OK if trace is None else DONE

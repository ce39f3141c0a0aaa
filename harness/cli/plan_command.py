"""``harness plan``: what to change so that a step of your own network fits on a GPU."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.cli.gpu_options import gpu_description
from harness.cli.parameter_types import Choices, ChoicesOrTarget, WholeNumber
from harness.cli.target_flags import arguments_of, step_of, target_flags
from harness.schema.module_request import OPTIMIZERS
from harness.schema.plain_text import printable

if TYPE_CHECKING:
    from harness.planning.plan_result import Plan


@click.command(
    cls=HarnessCommand,
    examples=[
        "harness plan torchvision.models:resnet50 --input 3x224x224 --batch 1024 --gpu l4",
        "harness plan my_model.py:Net --input int64:1024 --loss sum --batch 64 --gpu t4",
    ],
)
@click.argument("target", metavar="TARGET")
@click.option("--batch", type=WholeNumber(1, 2**31 - 1), required=True, help="Batch size.")
@click.option(
    "--optimizer",
    type=ChoicesOrTarget(OPTIMIZERS),
    default="sgd",
    show_default=True,
    help="Optimizer; also MODULE:CALLABLE of the parameters.",
)
@target_flags
@click.option(
    "--autocast",
    type=Choices(("float16", "bfloat16")),
    help="Type of autocast that the step has already.",
)
@click.option("--gpu", metavar="NAME", help="GPU to fit on, e.g. l4.")
@gpu_description
@click.option("--json", "as_json", is_flag=True, help="Print the plan as one line of JSON.")
def plan(
    target: str,
    batch: int,
    optimizer: str,
    inputs: tuple[str, ...],
    inputs_from: str | None,
    arguments: tuple[str, ...],
    loss: str,
    autocast: str | None,
    gpu: str | None,
    capability: str | None,
    memory: int | None,
    alloc_conf: str,
    as_json: bool,
) -> int:
    """List the changes with which a training step fits on a GPU.

    The fastest comes first.

    Micro-batches, checkpointing of blocks, bfloat16 autocast, variants of the optimizer and
    settings of the allocator are each predicted, without a GPU. Times are estimates that rank the
    changes. The exit code is 3 if nothing fits.
    """
    from harness.planning.plan import plan as run
    from harness.prediction.gpu.catalogue import described
    from harness.prediction.module.module_prediction import UnsupportedModuleError
    from harness.training.load_target import builder_of

    if gpu is None and memory is None:
        raise click.UsageError("give the GPU to fit on, e.g. --gpu l4")
    step = step_of(
        inputs=inputs,
        inputs_from=inputs_from,
        optimizer=optimizer,
        loss=loss,
        autocast=autocast,
    )

    def progress(words: str) -> None:
        if sys.stderr.isatty():
            click.echo(printable(f"predicting {words}"), err=True)

    try:
        found = run(
            builder_of(target, arguments_of(arguments)),
            batch,
            gpu=described(gpu, capability, memory),
            allocator_settings=alloc_conf,
            progress=progress,
            **step,
        )
    except UnsupportedModuleError as error:
        reason = str(error).removeprefix("unsupported: ")
        text = json.dumps({"outcome": "unsupported", "target": target, "reason": reason})
        click.echo(text if as_json else printable(f"unsupported: {reason}"))
        return NOT_OK
    if as_json:
        click.echo(json.dumps(_as_json(target, found)))
    else:
        from harness.reporting.plan_text import print_plan

        print_plan(target, found)
    return DONE if found.candidates else NOT_OK


def _as_json(target: str, found: "Plan") -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(asdict(found))
    for row, candidate in zip(plain["candidates"], found.candidates, strict=True):
        row["described"] = candidate.described()
    return {"outcome": "predicted", "target": target, **plain}

"""``harness plan`` lists changes that make a training step fit on a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.gpu_options import GPU, GpuFlags, gpu_description
from harness.cli.json_answer import Verdict, json_option, print_json
from harness.cli.sheet_output import page_option, print_sheet, write_page
from harness.cli.shown_progress import shown_progress
from harness.cli.step_options import StepFlags, step_options
from harness.cli.users_output import answer_alone

if TYPE_CHECKING:
    from harness.planning.plan_result import Plan


@harness_command(
    "harness plan torchvision:resnet50 --batch 1024 --gpu l4",
    "harness plan my_model.py:Net --input int64:1024 --batch 64 --gpu t4",
    "harness plan mlp:64x8192 --batch 4096 --optimizer adam --gpu t4",
)
@step_options
@click.option(
    "--gpu",
    type=GPU,
    metavar="NAME",
    help="GPU on which the step must fit, e.g. l4.  [required, or --memory]",
)
@gpu_description
@page_option
@json_option
def plan(asked: StepFlags, gpu_flags: GpuFlags, html: Path | None, as_json: bool) -> int:
    """List changes that make a training step fit on a GPU.

    The change that slows the step least comes first. TARGET has the form of harness predict.

    The command tries these changes on a pretended GPU: micro-batches, checkpointing of blocks,
    bfloat16 autocast, variants of the optimizer, 8-bit optimizer states, LoRA and settings of the
    allocator. The times are estimates that rank the changes. The exit code is 3 if nothing fits.
    """
    if gpu_flags.mean_all():
        raise click.UsageError(
            "plan needs a single GPU; harness predict --gpu all compares all GPUs"
        )
    gpu = gpu_flags.described()
    if gpu is None or (gpu_flags.gpu is None and gpu_flags.memory is None):
        raise click.UsageError("give the GPU to fit on, e.g. --gpu l4")
    if asked.batch is None:
        raise click.UsageError("give the batch that has to fit, e.g. --batch 256")
    if asked.device == "cpu":
        raise click.UsageError("plan is only for GPUs; leave out --device cpu")
    target = asked.target or "mlp"
    with answer_alone(as_json), shown_progress("trying ") as progress:
        from harness.planning.plan import plan_step
        from harness.planning.plan_sheet import plan_sheet

        result = plan_step(
            asked.step(),
            gpu=gpu,
            allocator_settings=gpu_flags.alloc_conf,
            progress=progress,
        )
    if html is not None:
        write_page(html, plan_sheet(result, target))
    if as_json:
        print_json(_as_json(target, result), _verdict(result))
    else:
        print_sheet(plan_sheet(result, target))
    return DONE if result.candidates else NOT_OK


def _verdict(plan: "Plan") -> Verdict:
    if plan.as_asked.verdict == "fits":
        return "fits"
    return "fits with changes" if plan.candidates else "does not fit"


def _as_json(target: str, plan: "Plan") -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(plan)
    for row, candidate in zip(plain["candidates"], plan.candidates, strict=True):
        row |= {"described": candidate.described(), "fits": candidate.fit.word}
    for row, lever in zip(plain["levers"], plan.levers, strict=True):
        row["fits"] = None if lever.fit is None else lever.fit.word
    return {"outcome": "predicted", "target": target, **plain}

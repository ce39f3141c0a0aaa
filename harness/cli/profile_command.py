"""``harness profile``: one step of any module, traced."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import GPU, Choices, WholeNumber
from harness.cli.shared_options import (
    GpuFlags,
    deadline_option,
    file_option,
    gpu_description,
    page_option,
    write_page,
)
from harness.cli.shown_progress import shown_progress
from harness.cli.target_flags import (
    TargetFlags,
    compile_option,
    optimizer_option,
    target_flags,
)
from harness.schema.step_choices import MODES

if TYPE_CHECKING:
    from harness.schema.step_report import StepReport
    from harness.schema.step_request import StepRequest


@harness_command(
    "harness profile torchvision.models:resnet18 --input 3x64x64 --batch 8",
    "harness profile my_model.py:Net --input tokens=int64:256 --input mask=bool:256",
    "harness profile torchvision.models:resnet18 --optimizer adam --html step.html",
)
@click.argument("target", metavar="TARGET")
@target_flags
@compile_option
@click.option("--batch", type=WholeNumber(1, 2**31 - 1), default=32, help="Batch size.")
@optimizer_option
@click.option("--classes", type=WholeNumber(1), help="Number of label classes.")
@click.option(
    "--mode",
    type=Choices(MODES),
    default="train",
    help="A training step, or a forward pass without gradients.",
)
@click.option("--autocast", type=Choices(("float16", "bfloat16")), help="Autocast dtype.")
@click.option(
    "--accumulate",
    type=WholeNumber(1, 2**31 - 1),
    default=1,
    help="Number of micro-batches of a step.",
)
@click.option(
    "--threads", type=WholeNumber(1, 4096), default=1, help="Number of CPU threads per operation."
)
@click.option(
    "--device",
    type=Choices(("cpu", "cuda")),
    default="cpu",
    help="Device of the step; cuda is a pretended GPU where there is none.",
)
@click.option(
    "--gpu", type=GPU, metavar="NAME", help="GPU to pretend, e.g. l4; implies --device cuda."
)
@gpu_description
@deadline_option
@json_option
@file_option("--events", help_text="Write the allocation events to FILE as CSV.")
@page_option
def profile(
    target: str,
    network: TargetFlags,
    compile_mode: str | None,
    gpu_flags: GpuFlags,
    device: Literal["cpu", "cuda"],
    deadline: float,
    as_json: bool,
    events: Path | None,
    html: Path | None,
    **step: Any,
) -> int:
    """Trace the memory of one step of any torch.nn.Module.

    TARGET returns the module, as package.module:callable or my_model.py:Net. The step runs in a
    process of its own, on the CPU or on a GPU.
    """
    from harness.planning.measure_step import measure_step
    from harness.planning.sent_step import request_of
    from harness.reporting.step_text import print_profile
    from harness.schema.target_name import hub_of

    given = network if hub_of(target) else network.with_default_input("3x224x224")
    request = request_of(given.step(target, compile=compile_mode, **step))
    gpu = gpu_flags.described()
    with shown_progress() as progress:
        report = measure_step(
            request,
            device=device if gpu is None else "cuda",
            gpu=gpu,
            deadline_seconds=deadline,
            progress=progress,
        )
    if report.trace is not None:  # before anything is printed: the reader of a pipe may go away
        if events is not None:
            events.write_text(report.trace.as_csv())
        if html is not None:
            from harness.cli.next_commands import after_profile, typed
            from harness.reporting.step_page import step_page

            title = f"{report.subject}, {request.mode}, {request.optimizer}"
            write_page(html, step_page(report, title, after_profile(typed())))
    if as_json:
        print_json(_as_json(report, request), report.outcome)
    else:
        print_profile(report, request)
    return NOT_OK if report.trace is None else DONE


def _as_json(report: "StepReport", request: "StepRequest") -> dict[str, Any]:
    import msgspec

    from harness.reporting.step_text import temporary_share

    step: dict[str, Any] = msgspec.to_builtins(request)
    modules = report.bytes_at_peak("module")
    return {
        **report.as_dict(),
        "request": {name: value for name, value in step.items() if name not in ("sent", "path")},
        "modules_at_peak": {name or "(network)": size for name, size in modules.items()},
        "operators_at_peak": report.bytes_at_peak("operator"),
        "temporary_share": temporary_share(report),
    }

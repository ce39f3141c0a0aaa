"""``harness measure`` measures one step in separate processes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.gpu_options import GPU, GpuFlags, gpu_description
from harness.cli.json_answer import json_option, print_json
from harness.cli.next_commands import after_measurement, typed
from harness.cli.parameter_types import WholeNumber
from harness.cli.shared_options import deadline_option, file_option, force_option
from harness.cli.sheet_output import page_option, print_sheet, write_page
from harness.cli.shown_progress import shown_progress
from harness.cli.step_options import StepFlags, refuse_with_target, step_options

if TYPE_CHECKING:
    from harness.schema.step_report import StepReport
    from harness.schema.step_request import StepRequest
    from harness.schema.workload import Workload

REPEATS = 3


@harness_command(
    "harness measure mlp:8x256 --batch 512 --optimizer adam",
    "harness measure --hidden 512,256,128 --mode inference --json",
    "harness measure torchvision:resnet18 --batch 8 --html step.html",
    "harness measure my_model.py:Net --input tokens=int64:256 --input mask=bool:256 --gpu l4",
)
@step_options
@click.option(
    "--gpu", type=GPU, metavar="NAME", help="Pretended GPU, e.g. l4; implies --device cuda."
)
@gpu_description
@click.option(
    "--repeats",
    type=WholeNumber(1, 1000),
    help=f"Number of runs that measure the time and the RSS of an MLP.  [{REPEATS}]",
)
@click.option(
    "--fresh-servers",
    is_flag=True,
    help="Start a fork server for each repeat, so that repeats are independent (takes seconds).",
)
@deadline_option
@force_option
@file_option("--events", help_text="Write the allocation events to FILE as CSV.")
@page_option
@json_option
@click.option("--inject", type=click.Choice(["kill", "hang", "error", "oom"]), hidden=True)
def measure(
    asked: StepFlags,
    gpu_flags: GpuFlags,
    repeats: int | None,
    fresh_servers: bool,
    deadline: float,
    force: bool,
    events: Path | None,
    html: Path | None,
    as_json: bool,
    inject: str | None,
) -> int:
    """Measure one training step in separate processes, on the CPU or on a GPU.

    TARGET is an MLP (mlp:DEPTHxWIDTH), or another network in the form of harness predict. For an
    MLP the command also measures the time and the RSS. For other networks, or with --html or
    --events, the command only traces the step.
    """
    own: dict[str, Any] = {"repeats": repeats, "fresh_servers": fresh_servers, "force": force}
    workload = asked.workload(on_cuda=gpu_flags.are_given())
    if workload is None or html is not None or events is not None:
        refuse_with_target({name for name, value in own.items() if value})
        return _trace(asked, gpu_flags, deadline, events, html, as_json=as_json)
    if gpu_flags.capability or gpu_flags.memory or gpu_flags.alloc_conf:
        raise click.UsageError(
            "an MLP needs a GPU with a name: give --gpu without other GPU options"
        )
    own = {"repeats": repeats or REPEATS, "fresh_servers": fresh_servers, "force": force}
    own["inject"] = inject
    return _measure_mlp(workload, gpu_flags.gpu, deadline, own, as_json=as_json)


def _measure_mlp(
    workload: "Workload", gpu: str | None, deadline: float, how: dict[str, Any], *, as_json: bool
) -> int:
    from harness.measurement.measure import measure as run
    from harness.planning.pretended_workers import gpu_or_dry_run
    from harness.schema.record import Outcome, to_json

    with gpu_or_dry_run(workload.device, gpu), shown_progress("", "workers measure the step"):
        record = run(workload, deadline_seconds=deadline, **how)
    if as_json:
        print_json(to_json(record), record.outcome)
    else:
        from harness.plots.step_sheets import record_sheet

        print_sheet(record_sheet(record))
    return DONE if record.outcome is Outcome.OK else NOT_OK


def _trace(
    asked: StepFlags,
    gpu_flags: GpuFlags,
    deadline: float,
    events: Path | None,
    html: Path | None,
    *,
    as_json: bool,
) -> int:
    from harness.planning.measure_step import measure_step
    from harness.planning.sent_step import request_of
    from harness.plots.step_sheets import profile_sheet

    request = request_of(asked.step())
    gpu = gpu_flags.described()
    with shown_progress() as progress:
        report = measure_step(
            request,
            device="cuda" if gpu is not None or asked.device == "cuda" else "cpu",
            gpu=gpu,
            deadline_seconds=deadline,
            progress=progress,
        )
    sheet = partial(profile_sheet, report, request, after_measurement(typed()))
    if report.trace is not None:  # before anything is printed: the reader of a pipe may go away
        if events is not None:
            events.write_text(report.trace.as_csv())
        if html is not None:
            write_page(html, sheet())
    if as_json:
        print_json(_as_json(report, request), report.outcome)
    else:
        print_sheet(sheet())
    return NOT_OK if report.trace is None else DONE


def _as_json(report: "StepReport", request: "StepRequest") -> dict[str, Any]:
    import msgspec

    from harness.plots.step_sheets import temporary_share

    step: dict[str, Any] = msgspec.to_builtins(request)
    modules = report.bytes_at_peak("module")
    return {
        **report.as_dict(),
        "request": {name: value for name, value in step.items() if name not in ("sent", "path")},
        "modules_at_peak": {name or "(network)": size for name, size in modules.items()},
        "operators_at_peak": report.bytes_at_peak("operator"),
        "temporary_share": temporary_share(report),
    }

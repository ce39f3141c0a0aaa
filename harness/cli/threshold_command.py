"""``harness threshold`` finds the largest batch, depth or width that fits a budget."""

from typing import TYPE_CHECKING, Any, Literal

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.gpu_options import pretend_option
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import SIZE, Choices
from harness.cli.shared_options import deadline_option, force_option
from harness.cli.sheet_output import print_sheet
from harness.cli.shown_progress import shown_progress
from harness.cli.step_options import StepFlags, step_options
from harness.schema.target_name import mlp_of

if TYPE_CHECKING:
    from harness.schema.step_threshold import StepThreshold
    from harness.schema.threshold import FoundThreshold


@harness_command(
    "harness threshold mlp:8x256 --budget 256MiB",
    "harness threshold --batch 64 --solve depth --budget 256MiB --json",
    "harness threshold torchvision:resnet18 --gpu l4",
)
@step_options
@click.option(
    "--budget",
    type=SIZE,
    help="Memory that the workload may use, e.g. 256MiB. On CUDA the default is"
    " all free memory of the GPU.",
)
@click.option(
    "--solve",
    type=Choices(("batch", "depth", "width")),
    default="batch",
    help="Quantity to maximize within the budget.",
)
@click.option(
    "--kind",
    type=Choices(("auto", "rlimit", "cgroup", "allocator")),
    default="auto",
    help="Limit that enforces the budget: RLIMIT_DATA or a cgroup on the CPU, the allocator's"
    " limit on CUDA.",
)
@click.option(
    "--budget-of",
    type=Choices(("workload", "process")),
    default="workload",
    help="Memory that the budget limits: only the workload's allocations, or also the process's"
    " own heap and library buffers, like ulimit -d.",
)
@deadline_option
@pretend_option
@force_option
@json_option
def threshold(
    asked: StepFlags,
    budget: int | None,
    solve: Literal["batch", "depth", "width"],
    kind: Literal["auto", "rlimit", "cgroup", "allocator"],
    budget_of: Literal["workload", "process"],
    deadline: float,
    force: bool,
    as_json: bool,
    gpu: str | None,
) -> int:
    """Find the largest batch that fits into a memory budget.

    TARGET is an MLP (mlp:DEPTHxWIDTH), or another network in the form of harness predict. With
    --solve depth the command finds the largest depth of an MLP (leave out --depth), and with
    --solve width the largest width (leave out --width). The command first predicts the threshold.
    To confirm it, separate processes run the step just below and just above the threshold.
    """
    from harness.schema.record import Outcome, to_json

    named = mlp_of(asked.target) or {}
    if {"batch": asked.batch, **asked.mlp, **named}.get(solve) is not None:
        raise click.UsageError(f"--{solve} is the value to find; leave it out or change --solve")
    workload = asked.workload(on_cuda=gpu is not None)
    limits: dict[str, Any] = {
        "budget_bytes": budget, "kind": kind, "deadline_seconds": deadline, "force": force,
    }  # fmt: skip
    result: FoundThreshold
    if workload is None:
        result = _of_network(asked, gpu, solve, budget_of, limits)
    else:
        from harness.planning.pretended_workers import gpu_or_dry_run
        from harness.thresholds.find_threshold import threshold as run

        doing = f"workers run the step at the predicted {solve}, and above it"
        with gpu_or_dry_run(workload.device, gpu), shown_progress("", doing):
            result = run(workload, solve=solve, budget_of=budget_of, **limits)
    if as_json:
        print_json(to_json(result), result.outcome)
    else:
        from harness.plots.threshold_sheet import threshold_sheet

        print_sheet(threshold_sheet(result))
    return DONE if result.outcome is Outcome.OK else NOT_OK


def _of_network(
    asked: StepFlags, gpu: str | None, solve: str, budget_of: str, limits: dict[str, Any]
) -> "StepThreshold":
    """Return the largest batch at which a network's step fits the budget."""
    for name, value, only in (("solve", solve, "batch"), ("budget-of", budget_of, "workload")):
        if value != only:
            raise click.UsageError(f"--{name} {value} is for an MLP, e.g. mlp:8x256")
    from harness.planning.probe_step import first_batch, threshold_of_step

    doing = "workers run the step at the predicted batch, and above it"
    with shown_progress("", doing):
        step = asked.step(batch=first_batch(max(asked.accumulate or 1, 1)))
        return threshold_of_step(step, gpu=gpu, device=asked.device, **limits)

"""``harness threshold``: the largest batch, depth or width that fits a budget."""

from typing import Literal

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import SIZE, Choices
from harness.cli.shared_options import deadline_option, force_option, pretend_option
from harness.cli.shown_progress import shown_progress
from harness.cli.step_options import StepFlags, step_options
from harness.schema.target_name import mlp_of


@harness_command(
    "harness threshold mlp:8x256 --budget 256MiB",
    "harness threshold --batch 64 --solve depth --budget 256MiB --json",
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
    help="The value to make as large as possible.",
)
@click.option(
    "--kind",
    type=Choices(("auto", "rlimit", "cgroup", "allocator")),
    default="auto",
    help="How the budget is enforced: RLIMIT_DATA or a cgroup on the CPU, the allocator's"
    " limit on CUDA.",
)
@click.option(
    "--budget-of",
    type=Choices(("workload", "process")),
    default="workload",
    help="What the budget has to hold: what the workload allocates, or the process's own heap and"
    " library buffers too, as under ulimit -d.",
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

    TARGET is an MLP, as mlp:DEPTHxWIDTH; of other networks harness predict finds the largest batch.
    With --solve depth or --solve width that value is searched instead; leave out its own flag.
    The threshold is predicted first, then confirmed: separate processes run the workload just
    below and just above it.
    """
    from harness.dry_runs.for_workers import gpu_or_dry_run
    from harness.schema.record import Outcome, to_json
    from harness.thresholds.find_threshold import threshold as run

    named = mlp_of(asked.target) or {}
    if {"batch": asked.batch, **asked.mlp, **named}.get(solve) is not None:
        raise click.UsageError(f"--{solve} is the value to find; leave it out or change --solve")
    workload = asked.workload(on_cuda=gpu is not None)
    if workload is None:
        rule = "a threshold is proved for an MLP, e.g. mlp:8x256"
        raise click.UsageError(
            f"{rule}; the largest batch of {asked.target} is what harness predict finds"
        )
    doing = f"workers run the step at the {solve} that is predicted, and above it"
    with gpu_or_dry_run(workload.device, gpu), shown_progress("", doing):
        result = run(
            workload,
            budget_bytes=budget,
            solve=solve,
            kind=kind,
            budget_of=budget_of,
            deadline_seconds=deadline,
            force=force,
        )
    if as_json:
        print_json(to_json(result), result.outcome)
    else:
        from harness.reporting.threshold_text import print_threshold

        print_threshold(result)
    return DONE if result.outcome is Outcome.OK else NOT_OK

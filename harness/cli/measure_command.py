"""``harness measure``: one isolated measurement."""

from typing import Any

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import WholeNumber
from harness.cli.shared_options import deadline_option, force_option, pretend_option
from harness.cli.shown_progress import shown_progress
from harness.cli.workload_flags import workload_flags, workload_from


@harness_command(
    "harness measure --depth 8 --batch 512 --optimizer adam",
    "harness measure --hidden 512,256,128 --mode inference --json",
)
@workload_flags()
@click.option(
    "--repeats",
    type=WholeNumber(1, 1000),
    default=3,
    help="Number of passes that time the step and read its RSS.",
)
@click.option(
    "--fresh-servers",
    is_flag=True,
    help="Start a fork server for each repeat, so that repeats are independent; seconds each.",
)
@deadline_option
@pretend_option
@force_option
@json_option
@click.option("--inject", type=click.Choice(["kill", "hang", "error", "oom"]), hidden=True)
def measure(
    repeats: int,
    fresh_servers: bool,
    deadline: float,
    force: bool,
    as_json: bool,
    inject: str | None,
    gpu: str | None,
    **flags: Any,
) -> int:
    """Measure one training step in processes of its own."""
    from harness.dry_runs.for_workers import gpu_or_dry_run
    from harness.measurement.measure import measure as run
    from harness.schema.record import Outcome, to_json

    workload = workload_from(flags)
    with gpu_or_dry_run(workload.device, gpu), shown_progress("", "workers measure the step"):
        record = run(
            workload,
            repeats=repeats,
            fresh_servers=fresh_servers,
            deadline_seconds=deadline,
            inject=inject,
            force=force,
        )
    if as_json:
        print_json(to_json(record), record.outcome)
    else:
        from harness.reporting.step_text import print_record

        print_record(record)
    return DONE if record.outcome is Outcome.OK else NOT_OK

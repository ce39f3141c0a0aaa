"""``harness sweep``: experiments into a folder of records."""

from typing import Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE
from harness.cli.parameter_types import SECONDS
from harness.cli.sweep_options import run_experiments, sweep_options


@click.command(
    cls=HarnessCommand,
    examples=[
        "harness sweep depth_batch --quick",
        "harness sweep depth_batch optimizers --out results/local/mine",
    ],
)
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...")
@sweep_options
@click.option(
    "--deadline",
    type=SECONDS,
    default=600,
    show_default=True,
    help="Seconds after which a worker process is stopped.",
)
def sweep(experiments: tuple[str, ...], **options: Any) -> int:
    """Run experiments and keep their records.

    Without EXPERIMENT all experiments run. If a sweep is interrupted, run the same command again
    to resume.
    """
    folder = run_experiments(experiments, **options)
    click.echo(f"records: {folder}", err=True)
    return DONE

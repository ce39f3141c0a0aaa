"""``harness reproduce``: every experiment, then the report."""

from typing import Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE
from harness.cli.sweep_options import run_experiments, sweep_options


@click.command(
    cls=HarnessCommand,
    examples=["harness reproduce --quick --out /tmp/try", "harness reproduce --full"],
)
@sweep_options
def reproduce(**options: Any) -> int:
    """Run every experiment, write the report and print the verdicts."""
    from harness.reporting.report import write_report
    from harness.reporting.terminal import print_verdicts

    folder = run_experiments((), **options)
    page = write_report(folder)
    print_verdicts(folder)
    click.echo(f"report: {page}")
    return DONE

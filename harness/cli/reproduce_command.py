"""``harness reproduce``: every experiment, then the report."""

from typing import Any

import click

from harness.cli.command import HarnessCommand
from harness.cli.report_command import write_page
from harness.cli.sweep_options import run_experiments, sweep_options


@click.command(
    cls=HarnessCommand,
    examples=["harness reproduce --quick --out /tmp/try", "harness reproduce --full"],
)
@sweep_options
def reproduce(**options: Any) -> int:
    """Run every experiment, write the report and print the answer.

    The exit code is 3 if a section of the report failed.
    """
    from harness.reporting.summary import print_summary
    from harness.sweeps.experiment_files import own_names

    folder = run_experiments(own_names(), **options)
    page, code = write_page(folder)
    print_summary(folder, page)
    return code

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
    """Run every experiment, write the report and print the answer."""
    from harness.reporting.parallel import usable_processors
    from harness.reporting.progress import counted
    from harness.reporting.report import write_report
    from harness.reporting.summary import print_summary
    from harness.sweeps.experiment_files import own_names

    folder = run_experiments(own_names(), **options)
    with counted("analysing and drawing experiments") as progress:
        page = write_report(folder, jobs=usable_processors(), progress=progress)
    print_summary(folder, page)
    return DONE

"""``harness report``: the report of a folder of records."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE


@click.command(cls=HarnessCommand, examples=["harness report results/local/default"])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> int:
    """Write the report from the records in FOLDER.

    Writes report.html, report.md, tables/ and figures/ into FOLDER. Nothing is measured again.
    """
    from harness.reporting.report import write_report

    click.echo(write_report(folder))
    return DONE

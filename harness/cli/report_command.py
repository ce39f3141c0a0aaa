"""``harness report``: the report of a folder of records."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE


@click.command(cls=HarnessCommand, examples=["harness report results/local/default"])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> int:
    """Write the report from the records in FOLDER.

    Writes report.html (the answer), evidence.html, report.md, claims.json, tables/ and figures/
    into FOLDER. Nothing is measured again.
    """
    from harness.reporting.parallel import usable_processors
    from harness.reporting.progress import counted
    from harness.reporting.report import write_report

    with counted("analysing and drawing experiments") as progress:
        page = write_report(folder, jobs=usable_processors(), progress=progress)
    click.echo(page)
    return DONE

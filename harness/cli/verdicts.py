"""``harness verdicts``: every claim of a report with its verdict."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE


@click.command(cls=HarnessCommand, examples=["harness verdicts results/reference-cpu"])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def verdicts(folder: Path) -> int:
    """Print every claim of a report with its verdict.

    The report in FOLDER is read, not written anew; what was measured stands with each claim.
    """
    from harness.reporting.summary import print_claims

    print_claims(folder)
    return DONE

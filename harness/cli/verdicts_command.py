"""``harness verdicts``: every claim of a report with its verdict, or of several side by side."""

from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command


@harness_command(
    "harness verdicts results/reference-cpu",
    "harness verdicts results/reference-cpu --short",
    "harness verdicts results/reference-cpu results/local/default",
)
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="FOLDER...",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--short", is_flag=True, help="Print one line for each claim.")
def verdicts(folders: tuple[Path, ...], short: bool) -> int:
    """Print every claim of a report with its verdict.

    The report in each FOLDER is read; nothing is written. For one FOLDER, each claim comes with
    what was measured, or with --short in one line. Several are printed side by side. The exit
    code is 3 if two reports contradict each other, if a metric that both have measured is more
    than ten times off, if they have no claim in common, or if there is no claim.
    """
    if short and len(folders) > 1:
        raise click.UsageError("--short takes one FOLDER; several are one line a claim already")
    from harness.reporting.summary import print_claims, print_side_by_side

    if len(folders) == 1:
        return DONE if print_claims(folders[0], short=short) else NOT_OK
    return DONE if print_side_by_side(folders) else NOT_OK

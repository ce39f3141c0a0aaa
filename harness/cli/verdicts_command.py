"""``harness verdicts``: every claim of a report with its verdict, or of several side by side."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json


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
@json_option
def verdicts(folders: tuple[Path, ...], short: bool, as_json: bool) -> int:
    """Print every claim of a report with its verdict.

    The report in each FOLDER is read; nothing is written. For one FOLDER, each claim comes with
    what was measured, or with --short in one line. Several are printed side by side. The exit
    code is 3 if two reports contradict each other, if a metric that both have measured is more
    than ten times off, if they have no claim in common, or if there is no claim.
    """
    if short and len(folders) > 1:
        raise click.UsageError("--short takes one FOLDER; several are one line a claim already")
    from harness.reporting.claims import read_claims
    from harness.reporting.summary import print_claims, print_side_by_side

    if as_json:
        runs = {str(folder): read_claims(folder).claims for folder in folders}
        with redirect_stdout(StringIO()):
            settled = len(folders) == 1 or print_side_by_side(folders)
        found = settled and all(runs.values())
        print_json({"claims": runs}, "agree" if found else "contradicted or without a claim")
        return DONE if found else NOT_OK
    if len(folders) == 1:
        return DONE if print_claims(folders[0], short=short) else NOT_OK
    return DONE if print_side_by_side(folders) else NOT_OK

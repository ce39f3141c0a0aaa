"""``harness report``: the report of a folder of records."""

from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.shared_options import experiment_files
from harness.cli.shown_progress import shown_progress
from harness.schema.plain_text import printable


@harness_command(
    "harness report results/local/default",
    "harness report results/local/mine --experiment my_experiment.py",
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@experiment_files
@json_option
def report(folder: Path, given: tuple[Path, ...], as_json: bool) -> int:
    """Write the report from the records in FOLDER.

    Writes report.html (the answer), evidence.html, report.md, claims.json, tables/ and figures/
    into FOLDER. Nothing is measured again. An experiment of your own is analysed by the file
    that the sweep ran. The exit code is 3 if a section failed, or if nothing could be settled.
    """
    with shown_progress("", "the report is made from the records"):
        page, code = write_page(folder, given)
    if as_json:
        print_json({"page": page}, "incomplete" if code else "complete")
    else:
        click.echo(page)
    return code


def write_page(folder: Path, given: tuple[Path, ...] = ()) -> tuple[Path, int]:
    """Write the report; return its page and the exit code, and say what is missing."""
    from harness.reporting.report import usable_processors, write_report

    missing: list[str] = []
    page = write_report(folder, jobs=usable_processors(), given=given, missing=missing.append)
    for line in missing:
        click.echo(printable(f"harness: {line}"), err=True)
    return page, NOT_OK if missing else DONE

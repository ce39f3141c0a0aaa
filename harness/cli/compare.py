"""``harness compare``: two runs, metric by metric."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.schema.plain_text import printable

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(
    cls=HarnessCommand, examples=["harness compare results/reference-cpu results/local/full"]
)
@click.argument("first", type=_FOLDER)
@click.argument("second", type=_FOLDER)
def compare(first: Path, second: Path) -> int:
    """Compare two runs, metric by metric.

    The exit code is 3 if an exact metric differs or a cell is missing in one run.
    """
    from harness.analysis.compare import compare as run
    from harness.analysis.frame import load
    from harness.reporting.comparison import render

    comparison = run(load(first), load(second))
    click.echo(printable(render(comparison)))
    return DONE if comparison.equal else NOT_OK

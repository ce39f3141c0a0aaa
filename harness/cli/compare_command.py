"""``harness compare``: two runs, or two predictions, metric by metric."""

from pathlib import Path

import click

from harness.cli.command import HarnessCommand
from harness.cli.exit_codes import DONE, NOT_OK
from harness.schema.plain_text import printable

_PLACE = click.Path(exists=True, path_type=Path)


@click.command(
    cls=HarnessCommand, examples=["harness compare results/reference-cpu results/local/full"]
)
@click.argument("first", type=_PLACE)
@click.argument("second", type=_PLACE)
def compare(first: Path, second: Path) -> int:
    """Compare two runs or predictions, metric by metric.

    FIRST and SECOND are folders of two runs, or two files of harness predict --json. The exit code
    is 3 if an exact metric differs or a cell is missing in one run, and if two predictions differ
    in any value.
    """
    if first.is_file() and second.is_file():
        return _compare_predictions(first, second)
    if not (first.is_dir() and second.is_dir()):
        raise click.UsageError("compare takes two folders or two files, not one of each")
    from harness.analysis.compare import compare as run
    from harness.analysis.frame import load
    from harness.reporting.comparison import runs_text

    comparison = run(load(first), load(second))
    click.echo(printable(runs_text(comparison)))
    return DONE if comparison.equal else NOT_OK


def _compare_predictions(first: Path, second: Path) -> int:
    from harness.budgets.compare_predictions import compare_predictions
    from harness.reporting.comparison import predictions_text

    comparison = compare_predictions(first, second)
    click.echo(printable(predictions_text(comparison)))
    return DONE if comparison.equal else NOT_OK

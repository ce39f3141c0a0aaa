"""``harness compare``: two runs, or two predictions, metric by metric."""

from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.schema.plain_text import printable

_PLACE = click.Path(exists=True, path_type=Path)


@harness_command("harness compare results/reference-cpu results/local/full")
@click.argument("first", type=_PLACE)
@click.argument("second", type=_PLACE)
def compare(first: Path, second: Path) -> int:
    """Compare two runs or predictions, metric by metric.

    FIRST and SECOND are folders of two runs, or two files of harness predict --json. The exit code
    is 3 if an exact metric differs, if a cell is missing in one run, if a noisy metric is more than
    ten times off, and if two predictions differ in any value.
    """
    are_files = first.is_file() and second.is_file()
    if not are_files and not (first.is_dir() and second.is_dir()):
        raise click.UsageError("compare takes two folders or two files, not one of each")
    from harness.reporting.comparison import predictions_text, runs_text

    if are_files:
        from harness.budgets.compare_predictions import compare_predictions

        predictions = compare_predictions(first, second)
        equal, text = predictions.equal, predictions_text(predictions)
    else:
        from harness.analysis.compare import compare as compare_runs

        runs = compare_runs(first, second)
        equal, text = runs.equal and runs.far_apart.empty, runs_text(runs)
    click.echo(printable(text))
    return DONE if equal else NOT_OK

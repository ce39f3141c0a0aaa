"""``harness compare``: two runs, or two predictions, metric by metric."""

from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.schema.plain_text import printable

_PLACE = click.Path(exists=True, path_type=Path)


@harness_command("harness compare results/reference-cpu results/local/full")
@click.argument("first", type=_PLACE)
@click.argument("second", type=_PLACE)
@click.option(
    "--tolerance",
    default="0%",
    help="Difference of a size that passes, such as 1%.",
)
@json_option
def compare(first: Path, second: Path, tolerance: str, as_json: bool) -> int:
    """Compare two runs or predictions, metric by metric.

    FIRST and SECOND are folders of two runs, or two files of harness predict --json. The exit code
    is 3 if an exact metric differs, if a cell is missing in one run, if a noisy metric is more than
    ten times off, and if two predictions differ in any value; sizes within --tolerance are equal.
    """
    are_files = first.is_file() and second.is_file()
    if not are_files and not (first.is_dir() and second.is_dir()):
        raise click.UsageError("compare takes two folders or two files, not one of each")
    from msgspec import to_builtins

    from harness.reporting.comparison import predictions_text, runs_text
    from harness.schema.units import parse_share

    if are_files:
        from harness.budgets.compare_predictions import compare_predictions

        predictions = compare_predictions(first, second, parse_share(tolerance))
        equal, text = predictions.equal, predictions_text(predictions)
        facts = to_builtins(predictions)
    else:
        from harness.analysis.compare import compare as compare_runs

        runs = compare_runs(first, second).within(float(parse_share(tolerance)))
        equal, text = runs.equal and runs.far_apart.empty, runs_text(runs)
        facts = runs.as_dict()
    if as_json:
        print_json(facts, "equal" if equal else "different")
    else:
        click.echo(printable(text))
    return DONE if equal else NOT_OK

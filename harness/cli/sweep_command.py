"""``harness sweep``: experiments into a folder of records."""

from typing import Any

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.parameter_types import EXPERIMENT
from harness.cli.shared_options import deadline_option
from harness.cli.sweep_options import run_experiments, sweep_options
from harness.schema.plain_text import printable


@harness_command(
    "harness sweep depth_batch --quick",
    "harness sweep depth_batch optimizers --out results/local/mine",
    "harness sweep my_experiment.py --quick",
    "harness sweep --list",
)
@click.argument("experiments", nargs=-1, type=EXPERIMENT, metavar="[EXPERIMENT]...")
@sweep_options
@deadline_option
@click.option("--list", "list_only", is_flag=True, help="List the experiments and stop.")
def sweep(experiments: tuple[str, ...], list_only: bool, **options: Any) -> int:
    """Run experiments and keep their records.

    EXPERIMENT is a name that --list shows, or the path of a Python file that defines one; files
    in ./experiments are found by name. Without EXPERIMENT all of them run. If a sweep is
    interrupted, run the same command again to resume. The exit code is 3 if no cell ended well.
    """
    if list_only:
        _list(experiments)
        return DONE
    folder, outcomes = run_experiments(experiments, **options)
    ended = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    click.echo(f"records: {folder} ({ended})")
    return DONE if outcomes["ok"] else NOT_OK


def _list(names: tuple[str, ...]) -> None:
    """Print the experiments; without names all of them, and what stands next to them."""
    from harness.reporting.terminal import print_experiments
    from harness.sweeps.experiment_files import ExperimentError, find, names_found, other_scripts

    listed = []
    skipped = [] if names else [f"{path}: it defines no EXPERIMENT" for path in other_scripts()]
    for name in names or names_found():
        try:
            listed.append(find(name))
        except ExperimentError as error:
            if names:
                raise
            skipped.append(str(error))
    print_experiments(listed)
    for why in skipped:
        click.echo(printable(f"skipped: {why}"), err=True)

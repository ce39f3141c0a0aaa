"""``harness verify``: a run's files against its data package, its report and new measurements."""

from pathlib import Path

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import WholeNumber
from harness.cli.shared_options import experiment_files


@harness_command(
    "harness verify results/reference-cpu",
    "harness verify results/reference-cpu --again 5 --seed 1",
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--again",
    type=WholeNumber(0, 10_000),
    default=0,
    metavar="N",
    help="Also measure N random cells again and compare them.",
)
@click.option("--seed", type=int, default=0, help="Seed of the choice of cells.")
@experiment_files
@json_option
def verify(folder: Path, again: int, seed: int, given: tuple[Path, ...], as_json: bool) -> int:
    """Check that a run is whole and gives its report.

    Compares every file with datapackage.json, reads every record, makes claims and tables again,
    and says if the records are of several commits or of other code than this. Nothing in FOLDER
    is written. The exit code is 3 if a check fails.
    """
    from harness.reporting.terminal import AnswerConsole
    from harness.reporting.verify import verify as checks
    from harness.reporting.verify_again import again as measured_again

    console = AnswerConsole()
    failed = False
    more = (measured_again(folder, again, seed, given),) if again else ()
    done = (*checks(folder, given), *more)
    if as_json:
        failed = any(one.problems for one in done)
        print_json({"checks": done}, "fails" if failed else "ok")
        return NOT_OK if failed else DONE
    for one in done:
        console.say(f"{one.name}: {'FAILS' if one.problems else 'ok'} ({one.seen})", "bold")
        console.say_all(one.problems, before="  ")
        failed |= bool(one.problems)
    return NOT_OK if failed else DONE

"""``harness report`` writes the report of a run, compares two runs, or checks a run."""

from contextlib import nullcontext, redirect_stdout
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.json_answer import json_option, print_json
from harness.cli.parameter_types import SHARE, WholeNumber
from harness.cli.shared_options import experiment_files
from harness.cli.shown_progress import shown_progress
from harness.schema.plain_file import check_run
from harness.schema.plain_text import printable

if TYPE_CHECKING:
    from harness.reporting.verify import Checked


@harness_command(
    "harness report results/local/default",
    "harness report results/local/mine --experiment my_experiment.py",
    "harness report results/local/full --against results/reference-cpu",
    "harness report results/reference-cpu --check --again 5",
    "harness report after.json --against before.json --tolerance 1%",
)
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@experiment_files
@click.option(
    "--against",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER",
    help="Only compare the verdicts and the metrics with another run; write nothing.",
)
@click.option(
    "--tolerance",
    type=SHARE,
    metavar="SHARE",
    help="With --against, the largest difference that is accepted. [0%]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Only check that the run is complete and that its report is correct; write nothing.",
)
@click.option(
    "--again",
    type=WholeNumber(1, 10_000),
    metavar="N",
    help="With --check, also repeat N random measurements and compare the results.",
)
@click.option("--seed", type=int, help="With --again, the seed that selects measurements.  [0]")
@json_option
def report(
    folder: Path,
    given: tuple[Path, ...],
    against: Path | None,
    tolerance: Fraction | None,
    check: bool,
    again: int | None,
    seed: int | None,
    as_json: bool,
) -> int:
    """Write the report from the records in FOLDER, and print its verdicts.

    The command writes report.html (the answer), evidence.html, report.md, claims.json, tables/,
    figures/ and manifest.sha256 into FOLDER. Nothing is measured again. Your own experiment is
    analysed with the file that the sweep ran. The exit code is 3 if a section failed or no claim
    can be judged.

    With --against the exit code is 3 if two verdicts contradict each other, if an exact metric
    differs, if a cell is missing in one run, or if a noisy metric differs by more than a factor of
    ten. You can also compare two files of harness predict --json. Then the exit code is 3 if a
    value differs by more than the tolerance. With --check the exit code is 3 if a check fails.
    """
    needs = {
        "--tolerance": (tolerance, against),
        "--again": (again, check),
        "--seed": (seed, again),
    }
    for option, (value, other) in needs.items():
        if value is not None and not other:
            rule = {"--tolerance": "--against", "--again": "--check", "--seed": "--again"}[option]
            raise click.UsageError(f"{option} needs {rule}")
    for run in filter(Path.is_dir, filter(None, (folder, against))):
        check_run(run)
    if against is not None:
        if check:
            raise click.UsageError("give --against or --check, not both")
        return _compare(against, folder, tolerance or Fraction(0), as_json)
    if folder.is_file():
        raise click.UsageError(f"{folder} is a file; give the folder of a run, or --against FILE")
    if check:
        return _check(folder, again or 0, seed or 0, given, as_json)
    if failed := _failed_cells(folder):
        why = f"none of {failed:,} cells completed, so nothing can be reported; run the sweep again"
        if as_json:
            print_json({"page": None, "claims": [], "notes": [why]}, "incomplete")
        else:
            click.echo(why)
        return NOT_OK
    page, code = write_page(folder, given)
    if as_json:
        from harness.reporting.claims import read_claims

        claims = read_claims(folder).claims
        print_json({"page": page, "claims": claims}, "incomplete" if code else "complete")
    else:
        from harness.reporting.summary import print_claims

        print_claims(folder)
        click.echo(page)
    return code


def _failed_cells(folder: Path) -> int:
    """Return the number of records if no record has the outcome ok, else 0."""
    files = [*folder.glob("*.jsonl"), *folder.glob("*/*.jsonl")]
    lines = [line for path in files for line in path.read_bytes().splitlines() if line.strip()]
    are_records = all(path.name == "records.jsonl" for path in files)
    is_one_well = any(b'"outcome":"ok"' in line.replace(b" ", b"") for line in lines)
    return 0 if is_one_well or not are_records or not _are_json(lines) else len(lines)


def _are_json(lines: list[bytes]) -> bool:
    return all(line.startswith(b"{") and b'"outcome"' in line for line in lines)


def write_page(folder: Path, given: tuple[Path, ...] = ()) -> tuple[Path, int]:
    """Write the report and print its missing parts; return the page's path and the exit code."""
    missing: list[str] = []
    with shown_progress("sections of the report: ", "the records are read", forks=True) as progress:
        from harness.reporting.report import usable_processors, write_report

        page = write_report(
            folder,
            jobs=usable_processors(),
            given=given,
            missing=missing.append,
            progress=progress,
        )
    for line in missing:
        click.echo(printable(f"harness: {line}"), err=True)
    return page, NOT_OK if missing else DONE


def _compare(first: Path, second: Path, tolerance: Fraction, as_json: bool) -> int:
    """Compare two runs or two predictions, and print the differences."""
    if first.is_file() and second.is_file():
        return _compare_predictions(first, second, tolerance, as_json)
    if not (first.is_dir() and second.is_dir()):
        raise click.UsageError("give two folders or two files to compare, not a folder and a file")
    from harness.analysis import AnalysisError
    from harness.analysis.compare import compare as compare_runs
    from harness.reporting.claims import CLAIMS
    from harness.reporting.comparison import runs_text
    from harness.reporting.summary import print_side_by_side
    from harness.schema.record import RecordError

    folders, agree, runs = (first, second), True, None
    have_claims = all((folder / CLAIMS).is_file() for folder in folders)
    try:
        runs = compare_runs(first, second).within(float(tolerance))
    except (RecordError, AnalysisError):  # a report without records, or of other cells
        if not have_claims:
            raise
    if have_claims:
        with redirect_stdout(StringIO()) if as_json else nullcontext():
            agree = print_side_by_side(folders)
    equal = agree and (runs is None or (runs.equal and runs.far_apart.empty))
    if as_json:
        facts = {} if runs is None else runs.as_dict()
        print_json(facts | {"verdicts_agree": agree}, "equal" if equal else "different")
    elif runs is not None:
        click.echo(printable(runs_text(runs)))
    return DONE if equal else NOT_OK


def _compare_predictions(first: Path, second: Path, tolerance: Fraction, as_json: bool) -> int:
    from msgspec import to_builtins

    from harness.analysis.compare_predictions import compare_predictions
    from harness.reporting.comparison import predictions_text

    found = compare_predictions(first, second, tolerance)
    if as_json:
        print_json(to_builtins(found), "equal" if found.equal else "different")
    else:
        click.echo(printable(predictions_text(found)))
    return DONE if found.equal else NOT_OK


def _check(folder: Path, again: int, seed: int, given: tuple[Path, ...], as_json: bool) -> int:
    """Check a run against its manifest, its report and new measurements."""
    from harness.reporting.verify import verify as checks

    done: list[Checked] = []
    with shown_progress("checked: ", "the files are checked", forks=True) as tell:
        for one in checks(folder, given):
            tell(one.name)
            done.append(one)
            _say_check(one, as_json)
        if again:
            from harness.reporting.verify_again import again as measured_again

            done.append(measured_again(folder, again, seed, given))
            _say_check(done[-1], as_json)
    failed = any(one.problems for one in done)
    if as_json:
        print_json({"checks": done}, "fails" if failed else "ok")
    return NOT_OK if failed else DONE


def _say_check(one: "Checked", as_json: bool) -> None:
    if as_json:
        return
    from harness.reporting.terminal import AnswerConsole

    console = AnswerConsole()
    console.say(f"{one.name}: {'FAILS' if one.problems else 'ok'} ({one.seen})", "bold")
    console.say_all(one.problems, before="  ")

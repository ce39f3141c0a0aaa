"""``harness sweep`` runs experiments and writes their records into a folder."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.command import DONE, NOT_OK, harness_command
from harness.cli.gpu_options import pretend_option
from harness.cli.json_answer import Verdict, json_option, print_json
from harness.cli.parameter_types import Choices, Completed, WholeNumber
from harness.cli.shared_options import all_of, deadline_option
from harness.cli.shown_progress import shown_progress
from harness.schema.plain_text import printable

if TYPE_CHECKING:
    from harness.schema.experiment import Experiment

_EXPERIMENT = Completed("harness.sweeps.experiment_files:names_found", files=True)

sweep_options = all_of(
    click.option("--quick", "size", flag_value="quick", help="Quick check: run few workloads."),
    click.option(
        "--full", "size", flag_value="full", help="Run the workloads of the reference run."
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder for the records and the report.  [default: results/local/SIZE]",
    ),
    click.option(
        "--device",
        type=Choices(("cpu", "cuda")),
        default="cpu",
        help="Device on which every workload runs.",
    ),
    pretend_option,
    click.option(
        "--executor",
        type=Choices(("local", "in-process", "dask")),
        default="local",
        help="Executor that runs the workloads.",
    ),
    click.option(
        "--jobs",
        type=WholeNumber(1, 4096),
        default=1,
        help="Number of workloads that run at the same time. Above 1, RSS and times are null.",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Address of a running Dask scheduler."),
)


@harness_command(
    "harness sweep depth_batch --quick",
    "harness sweep depth_batch optimizers --out results/local/mine",
    "harness sweep my_experiment.py --quick",
    "harness sweep --list",
)
@click.argument("experiments", nargs=-1, type=_EXPERIMENT, metavar="[EXPERIMENT]...")
@sweep_options
@deadline_option
@click.option("--list", "list_only", is_flag=True, help="List the experiments and stop.")
@json_option
def sweep(experiments: tuple[str, ...], list_only: bool, as_json: bool, **options: Any) -> int:
    """Run experiments and save their records.

    EXPERIMENT is a name that --list shows, or the path of a Python file that defines an experiment.
    Files in ./experiments are found by name. Without EXPERIMENT all experiments run. If a sweep is
    interrupted, run the same command again to resume. The exit code is 3 if no cell completed.
    """
    if list_only:
        _list(experiments, as_json)
        return DONE
    from harness.processes.environment import has_gpu

    folder, outcomes = run_experiments(experiments, **options)
    ended = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.most_common())
    if as_json:
        pretends = options["gpu"] or (options["device"] == "cuda" and not has_gpu())
        method = "dry run" if pretends else "measured"
        verdict: Verdict = "complete" if set(outcomes) == {"ok"} else "incomplete"
        print_json({"records": folder, "outcomes": outcomes, "method": method}, verdict)
    else:
        click.echo(f"records: {folder} ({ended})")
    return DONE if outcomes["ok"] else NOT_OK


def _list(names: tuple[str, ...], as_json: bool) -> None:
    """Print the named experiments; without names, print all experiments and the skipped files."""
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
    rows = [(one.name, one.question) for one in listed]
    if as_json:
        print_json({"experiments": dict(rows), "skipped": skipped, "method": None})
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, question in [("experiment", "question"), *rows]:
        click.echo(printable(f"{name:<{width}}  {question}"))
    for why in skipped:
        click.echo(printable(f"skipped: {why}"), err=True)


def run_experiments(
    names: Sequence[str],
    *,
    size: str | None,
    out: Path | None,
    device: str,
    executor: str,
    jobs: int,
    scheduler: str | None,
    gpu: str | None,
    deadline: float = 600.0,
) -> tuple[Path, Counter[str]]:
    """Run experiments; return the folder of records and the number of jobs with each outcome."""
    from harness.planning.pretended_workers import gpu_or_dry_run
    from harness.reporting.progress import shown
    from harness.schema.experiment import Size
    from harness.sweeps.executors import make_executor
    from harness.sweeps.experiment_files import find, names_found
    from harness.sweeps.sweep import run

    if gpu is not None:
        device = "cuda"
    grids = Size(size or "default")
    name = grids.value if device == "cpu" else f"{grids.value}-{device}"
    folder = out or Path("results", "local", name)
    with shown_progress("", "the experiments are loaded"):
        chosen = [find(name) for name in names or names_found()]
    outcomes: Counter[str] = Counter()
    try:
        with ExitStack() as stack:
            pretended = stack.enter_context(gpu_or_dry_run(device, gpu))
            used = stack.enter_context(
                closing(make_executor(executor, jobs=jobs, scheduler=scheduler))
            )
            chosen = _runnable(chosen, device, pretended)
            if not chosen:
                raise click.UsageError(f"no experiment is left to run on {device}")
            progress = stack.enter_context(shown(len(chosen)))
            for experiment in chosen:
                outcomes += run(
                    experiment,
                    grids,
                    folder,
                    progress,
                    device=device,
                    deadline_seconds=deadline,
                    executor=used,
                )
    except KeyboardInterrupt:
        message = "Interrupted. Every finished cell is saved; run the same command to resume."
        click.echo(message, err=True)
        raise
    return folder, outcomes


def _runnable(chosen: "list[Experiment]", device: str, pretended: str | None) -> "list[Experiment]":
    """Return the experiments that can run on the device; print why an experiment is skipped."""
    if pretended is not None:
        click.echo(f"No GPU: {pretended}. Times are null.", err=True)
    runnable = []
    for one in chosen:
        if why := one.unfit_for(device):
            click.echo(f"{one.name} is skipped on {device}: {why}", err=True)
        else:
            runnable.append(one)
    return runnable

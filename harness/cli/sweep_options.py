"""The options that ``sweep`` and ``reproduce`` share, and what both do with them."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.parameter_types import Choices, WholeNumber
from harness.cli.shared_options import all_of, pretend_option

if TYPE_CHECKING:
    from harness.schema.experiment import Experiment, Size

sweep_options = all_of(
    click.option("--quick", "size", flag_value="quick", help="Run small grids, for a quick check."),
    click.option("--full", "size", flag_value="full", help="Run the grids of the reference run."),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="Folder for records and report.  [default: results/local/SIZE]",
    ),
    click.option(
        "--device",
        type=Choices(("cpu", "cuda")),
        default="cpu",
        help="Device that every cell runs on.",
    ),
    pretend_option,
    click.option(
        "--executor",
        type=Choices(("local", "in-process", "dask")),
        default="local",
        help="Where the cells run.",
    ),
    click.option(
        "--jobs",
        type=WholeNumber(1, 4096),
        default=1,
        help="Number of cells at a time. With more than 1, RSS and times are null.",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Address of a running Dask scheduler."),
)


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
    """Run the named experiments, or all; return the folder of records, and how the jobs ended."""
    from harness.dry_run.for_workers import gpu_or_dry_run
    from harness.reporting.progress import shown
    from harness.schema.experiment import Size
    from harness.sweeps.executors import make_executor
    from harness.sweeps.experiment_files import find, names_found
    from harness.sweeps.sweep import run

    grids = Size(size or "default")
    name = grids.value if device == "cpu" else f"{grids.value}-{device}"
    folder = out or Path("results", "local", name)
    chosen = [find(name) for name in names or names_found()]
    outcomes: Counter[str] = Counter()
    try:
        with ExitStack() as stack:
            pretended = stack.enter_context(gpu_or_dry_run(device, gpu))
            used = stack.enter_context(
                closing(make_executor(executor, jobs=jobs, scheduler=scheduler))
            )
            chosen = _runnable(chosen, device, grids, pretended)
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


def _runnable(
    chosen: "list[Experiment]", device: str, size: "Size", pretended: str | None
) -> "list[Experiment]":
    """Return the experiments that can run here; name the others, once every setting was checked."""
    if pretended is not None:
        click.echo(f"No GPU: {pretended}. Times and accuracies are null.", err=True)
    runnable = []
    for one in chosen:
        if why := one.unfit_for(device):
            click.echo(f"{one.name} is skipped on {device}: {why}", err=True)
        elif pretended is not None and list(one.training_runs(size)):
            click.echo(f"{one.name} is skipped in a dry run: accuracies need values", err=True)
        else:
            runnable.append(one)
    return runnable

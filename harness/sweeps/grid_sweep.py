"""``harness.sweep``: any workloads into a folder of records."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.measurement.measure import DEADLINE_SECONDS
from harness.schema.argument_checks import ArgumentError, check_choice, check_workload
from harness.schema.experiment import Experiment, Size
from harness.schema.sweep_progress import Progress
from harness.schema.workload import Workload
from harness.sweeps.executors import Executor
from harness.sweeps.sweep import run

if TYPE_CHECKING:
    from harness.schema.experiment import Evidence
    from harness.schema.findings import Section


def sweep(
    grid: Iterable[Workload],
    *,
    out: Path | str,
    repeats: int = 3,
    device: Literal["cpu", "cuda"] = "cpu",
    deadline_seconds: float = DEADLINE_SECONDS,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Path:
    """Measure every workload of a grid and keep the records in a folder.

    Each workload is measured in processes of its own. If the sweep is interrupted, the same call
    resumes it. A failed measurement, such as one that runs out of memory, is a record too.

    Args:
        grid: a ``Grid``, or any iterable of workloads.
        out: folder for ``records.jsonl``; it is made if it does not exist.
        repeats: number of passes that time each step.
        device: device that every workload runs on, whatever its own says.
        deadline_seconds: seconds after which one worker process is stopped.
        executor: where the cells run; one at a time on this machine by default.
        progress: is called for every cell; nothing is shown by default.

    Returns:
        The folder, for ``harness.load``.

    Raises:
        ArgumentError: ``grid`` has something else than workloads.
        StoreError: the folder cannot be used, or has records of another device.
        LaunchError: no worker process can be started.

    >>> import tempfile, harness
    >>> tiny = harness.Workload(width=8, in_features=8)
    >>> grid = harness.Grid(base=tiny, axes={"batch": [4, 8]})
    >>> folder = harness.sweep(grid, out=tempfile.mkdtemp(), repeats=1)
    >>> harness.load(folder)["saved_bytes"].tolist()
    [452, 900]
    """
    if isinstance(grid, Workload):
        raise ArgumentError("grid must be a harness.Grid or a list of workloads, got a Workload")
    cells = [check_workload(cell) for cell in grid]
    check_choice("device", device, ("cpu", "cuda"))
    folder = Path(out)
    experiment = Experiment(
        name=folder.name,
        title=folder.name,
        question="",
        cells=lambda _: cells,
        repeats=repeats,
        analyse=_no_analysis,
    )
    run(
        experiment,
        Size.DEFAULT,
        folder.resolve().parent,
        progress or Silent(),
        device=device,
        deadline_seconds=deadline_seconds,
        executor=executor,
    )
    return folder


class Silent(Progress):
    """A progress that shows nothing."""


def _no_analysis(evidence: "Evidence") -> "Section":
    raise NotImplementedError(f"{evidence.folder} is a grid, not an experiment")

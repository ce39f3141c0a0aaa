"""An experiment is a research question with the workloads to run and the analysis of the results.

Each experiment is a Python file or package that defines ``EXPERIMENT``.
``harness.sweeps.experiment_files`` finds these files.
"""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.schema.findings import Source
from harness.schema.threshold import Threshold, ThresholdQuestion
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.training_run import TrainingJob, TrainingRun
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

    from harness.schema.findings import Section


class Size(enum.StrEnum):
    """Size of an experiment's run; a larger size runs more workloads."""

    QUICK = "quick"
    """Size for CI; it has few workloads, but still runs every line of the experiment's code."""
    DEFAULT = "default"
    """Size that is large enough to decide the experiment's claims."""
    FULL = "full"
    """Size of the reference run, whose results the project publishes."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Results of a run, for the analysis of an experiment; a cell is one workload of the run.

    A cell has no numbers if its record is missing or contradictory.
    """

    frame: "pd.DataFrame"
    """One row per cell, with the columns of ``harness.load`` and ``fastest_seconds`` (fastest
    repeat). The outcome of a cell without a record is ``missing``."""
    folder: Path
    """Results folder of the experiment; events/<workload id>.csv has the events of a traced
    cell."""
    thresholds: tuple[Threshold, ...] = ()
    training_runs: tuple[TrainingRun, ...] = ()
    step_runs: tuple[StepRun, ...] = ()
    size: Size = Size.DEFAULT
    """Smallest ``Size`` of the experiment that includes every cell of the run."""
    doubts: tuple[str, ...] = ()
    """Contradictions in the records; if there is a contradiction, every claim stays open."""
    origins: "pd.DataFrame | None" = None
    """Time and git commit of each record."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One research question, the workloads (cells) to run, and a function that analyses results."""

    title: str
    question: str
    cells: Callable[[Size], Iterable[Workload]] = field(default=lambda _: ())
    analyse: "Callable[[Evidence], Section]"
    repeats: int = 3
    """Number of runs of each cell that measure time, RSS and GPU memory, without a trace."""
    servers_by_seed: bool = False
    """True to start one fork server per seed, so that each seed is an independent replicate."""
    fresh_servers: bool = False
    """True to start a new fork server for each run of a cell."""
    traced: Callable[[Size], Iterable[Workload]] = field(default=lambda _: ())
    """Function that returns the cells whose allocation events are stored for a timeline."""
    thresholds: Callable[[Size, str], Iterable[ThresholdQuestion]] = field(default=lambda *_: ())
    """Function that returns the thresholds to search for, given the size and the device."""
    training_runs: Callable[[Size], Iterable[TrainingJob]] = field(default=lambda _: ())
    """Function that returns the training runs to make, given the size."""
    step_jobs: Callable[[Size], Iterable[StepJob]] = field(default=lambda _: ())
    """Function that returns jobs; a job runs a step of any network, or calls your own function."""
    steps_from: str | Path = "."
    """Package that replaces a leading dot in the names of a ``StepJob``. The name is relative to
    the experiment's package. In a user's experiment, a folder of files replaces the dot."""
    source: Source | None = None
    """Published claim that the experiment tests."""
    cpu_alone: str | None = None
    """Reason why the experiment's question does not apply to a GPU, or None."""
    gpu_alone: str | None = None
    """Reason why the experiment's question does not apply to the CPU, or None."""

    order: int = 1000
    """Position in the report; experiments with equal positions are sorted by name."""
    name: str = ""
    """Name of the experiment's module and of its results folder; set by ``find``."""
    file: Path | None = None
    """Path of a user's experiment, set by ``find``; None for an experiment of the harness."""

    def unfit_for(self, device: str) -> str | None:
        """Return the reason why the experiment's question does not apply to ``device``, or None."""
        return self.gpu_alone if device == "cpu" else self.cpu_alone

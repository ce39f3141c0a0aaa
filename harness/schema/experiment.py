"""An experiment, i.e. a question, the cells that answer it, and their analysis.

A module, i.e. a file or a folder, defines an ``EXPERIMENT``; ``harness.sweeps.experiment_files``
finds it.
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
    """Size of a run of an experiment."""

    QUICK = "quick"
    """Smallest size that runs every line of code, for CI."""
    DEFAULT = "default"
    """Size that is large enough to decide the verdict."""
    FULL = "full"
    """Size of the reference run."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Lines and events of a run, for one experiment's analysis; each cell has one line.

    A cell has no numbers if its line is missing or contradicts itself.
    """

    frame: "pd.DataFrame"
    """One row per cell, with the columns of ``harness.load`` and ``fastest_seconds`` of its
    repeats. The outcome of a cell without a record is ``missing``."""
    folder: Path
    """The experiment's folder, which has events/<workload id>.csv of the traced cells."""
    thresholds: tuple[Threshold, ...] = ()
    training_runs: tuple[TrainingRun, ...] = ()
    step_runs: tuple[StepRun, ...] = ()
    size: Size = Size.DEFAULT
    """Smallest size of an experiment. The size must have every cell of the run."""
    doubts: tuple[str, ...] = ()
    """Contradictions in the lines; any contradiction leaves every claim open."""
    origins: "pd.DataFrame | None" = None
    """Time and commit of each line."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question with its cells and its analysis."""

    title: str
    question: str
    cells: Callable[[Size], Iterable[Workload]] = field(default=lambda _: ())
    analyse: "Callable[[Evidence], Section]"
    repeats: int = 3
    """Number of passes per cell without instruments."""
    servers_by_seed: bool = False
    """True if the cells of each seed have their own fork server; each seed is then a replicate."""
    fresh_servers: bool = False
    """True if each pass of a cell has its own fork server."""
    traced: Callable[[Size], Iterable[Workload]] = field(default=lambda _: ())
    """Cells whose allocation events are kept for a timeline."""
    thresholds: Callable[[Size, str], Iterable[ThresholdQuestion]] = field(default=lambda *_: ())
    """Thresholds to find, by size and device."""
    training_runs: Callable[[Size], Iterable[TrainingJob]] = field(default=lambda _: ())
    """Whole training runs."""
    step_jobs: Callable[[Size], Iterable[StepJob]] = field(default=lambda _: ())
    """Steps of any network, or your own functions, on the CPU or in a dry run."""
    steps_from: str | Path = "."
    """Package for a leading dot in a step's names. The name is relative to the experiment's package
    until ``find`` completes it. A user's experiment has a folder of Python files here."""
    source: Source | None = None
    """Claim of the literature that the experiment tests."""
    cpu_alone: str | None = None
    """Reason why the question does not apply to a GPU; None if it applies."""
    gpu_alone: str | None = None
    """Reason why the question does not apply to the CPU; None if it applies."""

    order: int = 1000
    """Place in the report; smaller numbers come first, equal numbers are sorted by name."""
    name: str = ""
    """Name of the module, which ``find`` sets; also the name of the results folder."""
    file: Path | None = None
    """User's file or package of the experiment, set by ``find``; None for the harness's own."""

    def unfit_for(self, device: str) -> str | None:
        """Return why the question does not apply to ``device``; None if it applies."""
        return self.gpu_alone if device == "cpu" else self.cpu_alone

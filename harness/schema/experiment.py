"""An experiment: a question, the cells that answer it, and the analysis of them.

A module (a file, or a folder if the analysis needs files of its own) defines one ``EXPERIMENT``;
``harness.sweeps.experiment_files`` finds it.
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
    """Enough to exercise every line, for CI."""
    DEFAULT = "default"
    """Enough to settle the verdict."""
    FULL = "full"
    """The reference run."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Lines and events of a run, for one experiment's analysis; each cell has one line.

    A cell without a line, or with a line that contradicts itself, has no numbers.
    """

    frame: "pd.DataFrame"
    """One row a cell, with the columns of ``harness.load`` and ``fastest_seconds`` of its repeats;
    the outcome of a cell without a record is ``missing``."""
    folder: Path
    """The experiment's folder: events/<workload id>.csv of the traced cells."""
    thresholds: tuple[Threshold, ...] = ()
    training_runs: tuple[TrainingRun, ...] = ()
    step_runs: tuple[StepRun, ...] = ()
    size: Size = Size.DEFAULT
    """The smallest size that asks for every cell of the run."""
    doubts: tuple[str, ...] = ()
    """Contradictions in the lines: they leave every claim open."""
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
    """Instrument-free passes per cell."""
    servers_by_seed: bool = False
    """True if the cells of each seed have a fork server of their own: a replicate each."""
    fresh_servers: bool = False
    """True if each pass of a cell has a fork server of its own."""
    traced: Callable[[Size], Iterable[Workload]] = field(default=lambda _: ())
    """Cells whose allocation events are kept for a timeline."""
    thresholds: Callable[[Size, str], Iterable[ThresholdQuestion]] = field(default=lambda *_: ())
    """Thresholds to find, by size and device."""
    training_runs: Callable[[Size], Iterable[TrainingJob]] = field(default=lambda _: ())
    """Whole training runs."""
    step_jobs: Callable[[Size], Iterable[StepJob]] = field(default=lambda _: ())
    """Steps of any network, or functions of your own, on the CPU or under the dry run."""
    steps_from: str | Path = "."
    """Package that a leading dot in a step's names stands for, relative to the experiment's
    package; ``find`` makes it whole. For a user's experiment it is a folder of Python files."""
    source: Source | None = None
    """The claim of the literature that it tests."""
    cpu_alone: str | None = None
    """Why the question makes no sense on a GPU; None if it does."""
    gpu_alone: str | None = None
    """Why the question makes no sense on the CPU; None if it does."""

    order: int = 1000
    """Place in the report; smaller numbers come first, equal ones by name."""
    name: str = ""
    """The module's name, which ``find`` sets; also the name of the results folder."""
    file: Path | None = None
    """The user's file or package that defines it, which ``find`` sets; None for our own."""

    def unfit_for(self, device: str) -> str | None:
        """Return why the question makes no sense on ``device``; None if it does."""
        return self.gpu_alone if device == "cpu" else self.cpu_alone

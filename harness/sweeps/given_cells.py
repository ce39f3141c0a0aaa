"""Experiment for ``harness report --again``, which measures cells of an earlier run again."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from harness.schema.experiment import Experiment
from harness.schema.traced_run import StepJob
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from harness.schema.experiment import Evidence
    from harness.schema.findings import Section


class GivenCells(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Cells and traced steps to measure again, with the settings for the new measurement."""

    workloads: tuple[Workload, ...] = ()
    step_jobs: tuple[StepJob, ...] = ()
    repeats: int = 1
    fresh_servers: bool = False

    def write(self, file: Path) -> None:
        """Write a Python file that defines the experiment for ``harness sweep``."""
        cells = msgspec.json.encode(self).decode()
        file.write_text(
            f"from {__name__} import experiment\n\nEXPERIMENT = experiment({cells!r})\n"
        )


def experiment(cells: str) -> Experiment:
    """Return an experiment for ``cells``, JSON that ``GivenCells.write`` wrote."""
    given = msgspec.json.decode(cells, type=GivenCells)
    return Experiment(
        title="measured again",
        question="Are the numbers of the run those of today?",
        cells=lambda _: given.workloads,
        step_jobs=lambda _: given.step_jobs,
        repeats=given.repeats,
        fresh_servers=given.fresh_servers,
        analyse=_compared_by_the_report,
    )


def _compared_by_the_report(evidence: "Evidence") -> "Section":
    raise NotImplementedError(f"{evidence.folder}: the report compares these cells itself")

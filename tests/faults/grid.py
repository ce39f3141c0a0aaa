"""The sweep that faults are injected into, and what must hold after each of them."""

import functools
import os
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from harness.analysis.frame import load, read_lines
from harness.reporting.progress import Lines
from harness.schema.experiment import Experiment, Size
from harness.schema.findings import Section
from harness.schema.record import Outcome, from_json
from harness.schema.workload import Grid, Workload
from harness.sweeps.executors import Cell, Executor, Measured
from harness.sweeps.executors.in_process import InProcessExecutor
from harness.sweeps.runner import ended
from harness.sweeps.sweep import run

FULL = os.environ.get("HARNESS_FAULTS") == "full"
EXACT = (
    "workload_id", "outcome", "saved_bytes", "saved_input_bytes", "peak_live_bytes",
    "first_step_peak_live_bytes", "phases", "categories_at_peak", "modules",
)  # fmt: skip


def experiment(cells: int, *, traced: bool = False) -> Experiment:
    """Return a sweep of ``cells`` tiny workloads."""
    base = Workload(width=8, in_features=8)
    grid = Grid(base=base, axes={"batch": range(2, 2 + cells)})
    kept = list(grid) if traced else []
    return Experiment(
        name="faulty", title="", question="", cells=lambda size: grid,
        analyse=lambda evidence: Section(), repeats=1, traced=lambda size: kept,
    )  # fmt: skip


def sweep(folder: Path, cells: int, executor: Executor | None, *, traced: bool = False) -> None:
    """Run the sweep, or go on with it."""
    run(experiment(cells, traced=traced), Size.QUICK, folder, Lines(), executor=executor)


def records_path(folder: Path) -> Path:
    """Return the file of the sweep's records."""
    return folder / "faulty" / "records.jsonl"


class Replay(Executor):
    """Answers every cell with the record of an undisturbed run: for faults of files alone."""

    name = "replay"

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        of_cell = (one for one in reference() if one[0].workload_id == cell.workload.id)
        record, trace = next(of_cell)
        record = msgspec.structs.replace(record, attempt=attempt)
        return ended(record, trace if cell.keep_events else None)


@functools.cache
def reference() -> list[Measured]:
    """Measure cells in this process, where nothing is injected; a sweep of n is the first n."""
    executor = InProcessExecutor()
    wanted = [
        Cell(workload=workload, repeats=1, deadline_seconds=60, keep_events=True)
        for workload in experiment(200 if FULL else 24).cells(Size.QUICK)
    ]
    return [executor.submit(cell, 1).result() for cell in wanted]


@dataclass(kw_only=True)
class Tally:
    """One kind of fault: how often it was injected, and what was lost or wrong afterwards.

    ``internal``: commands that ended in an internal error or a traceback. ``left``: processes,
    cgroups and folders that were left behind.
    """

    fault: str
    injected: int = 0
    lost: int = 0
    wrong: int = 0
    internal: int = 0
    left: int = 0
    notes: set[str] = field(default_factory=set)
    checked: bool = False

    def count_answer(self, code: int, said: str, *, refused: bool) -> None:
        """Count what a command answered that should have refused, or shown text as data."""
        self.internal += code == 1 or "Traceback" in said
        if not refused:
            self.wrong += 1
            self.notes.add(said[:200])

    def settle_answers(self) -> None:
        """Keep this line of the table: every answer was the one that was expected."""
        self.checked = True
        assert self.injected > 0
        assert (self.lost, self.wrong, self.internal) == (0, 0, 0), self.notes

    def check(self, folder: Path, cells: int) -> None:
        """Count cells that are missing, doubled or unequal to the undisturbed run's.

        An attempt that has no record, or two of one number, are wrong too.
        """
        self.checked = True
        attempts: dict[str, list[int]] = {}
        last = {}
        for record in read_lines(records_path(folder), from_json):
            last[record.workload_id] = record
            attempts.setdefault(record.workload_id, []).append(record.attempt)
        for result in attempts.values():
            self.wrong += result != list(range(1, len(result) + 1))
        frame = load(folder)
        rows = frame["workload_id"].value_counts().to_dict()
        wanted = [record for record, _ in reference()[:cells]]
        for expected in wanted:
            own = last.get(expected.workload_id)
            if own is None or rows.get(expected.workload_id) != 1:
                self.lost += 1
            elif own.outcome is not Outcome.OK or any(
                getattr(own, name) != getattr(expected, name) for name in EXACT
            ):
                self.wrong += 1
                self.notes.add(f"{own.outcome}: {own.evidence}"[:200])
        self.wrong += len(rows.keys() - {record.workload_id for record in wanted})

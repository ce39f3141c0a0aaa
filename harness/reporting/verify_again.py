"""Random cells of a run, measured again and compared with its records."""

import mmap
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from harness.analysis.compare import Comparison, compare
from harness.analysis.frame import lines_if_there
from harness.dry_runs.for_workers import gpu_or_dry_run
from harness.measurement.measure import DEADLINE_SECONDS, measure
from harness.plots.columns import typed_frame
from harness.plots.frames import COLUMNS, record_row
from harness.reporting.manifest import evidence_of
from harness.reporting.verify import Checked
from harness.schema import record, traced_run
from harness.schema.record import Outcome, Record
from harness.schema.traced_run import StepRun
from harness.sweeps.experiment_files import experiment_of
from harness.sweeps.traced_runner import TracedRunner

Problems = Iterator[str]
TWO_KERNEL_BATCHES_BYTES = 2 * max(32, 2 * (os.cpu_count() or 1)) * mmap.PAGESIZE
"""Each of two readings may be one batch of Linux's page counts away from the truth
(``percpu_counter_batch``)."""
REPLICATES = 6
"""Fork servers of a cell."""


def again(folder: Path, count: int, seed: int, given: Sequence[Path] = ()) -> Checked:
    """Measure ``count`` random cells of the run in ``folder`` again, and compare them.

    Exact metrics must be equal, no noisy one may be ten times off, and with pinned malloc the RSS
    rises must meet within the spreads of both and two batches of the kernel's counters. The repeats
    of one fork server are one replicate, so each repeat here has a server of its own. A cell is one
    of the run's lines of cells or of steps that ended well; thresholds and training runs are left
    out. ``given`` are files of experiments, as for ``harness report``.
    """
    cells: dict[str, Callable[[], Problems]] = {}
    for path in evidence_of(folder):
        kind, name = Path(path).name, Path(path).parent.as_posix()
        if kind == record.RECORDS:
            for one in lines_if_there(folder / path, record.from_json):
                if one.outcome is Outcome.OK:
                    cells[f"{name}: {one.workload}"] = partial(_cell, one)
        elif kind == traced_run.STEP_RUNS:
            experiment = experiment_of((folder / path).parent, given)
            steps_from = experiment.steps_from if experiment else Path()
            for step in lines_if_there(folder / path, traced_run.from_json):
                if step.outcome is Outcome.OK:
                    cells[f"{name}: {step.job}"] = partial(_step, step, steps_from)
    chosen = random.Random(seed).sample(sorted(cells), min(count, len(cells)))
    problems = [f"{name}: {problem}" for name in chosen for problem in cells[name]()]
    if not chosen:
        problems = ["no cell of this run can be measured again"]
    seen = f"{len(chosen)} of {len(cells):,} cells measured again, seed {seed}"
    return Checked(name="again", seen=seen, problems=tuple(problems))


def _cell(known: Record) -> Problems:
    """Yield how a cell differs when it is measured again."""
    _, is_dry_run, gpu = str(known.environment.get("device", "")).rpartition("dry run, ")
    workload = known.workload
    varies = workload.malloc == "pinned" and workload.device == "cpu"  # from server to server
    with gpu_or_dry_run(workload.device, gpu if is_dry_run else None):
        repeats = REPLICATES if varies else max(1, len(known.repeats))
        new = measure(workload, repeats=repeats, fresh_servers=varies)
    if new.outcome is not known.outcome:
        yield f"ended {new.outcome}: {new.evidence.get('message', '')}"
        return
    frames = [
        typed_frame([{"experiment": "cell", **record_row(one)}], COLUMNS) for one in (known, new)
    ]
    yield from _differences(compare(*frames))
    yield from _rises(known, new)


def _rises(known: Record, new: Record) -> Problems:
    """Yield the RSS rises if they lie further apart than the two records say that they vary."""
    rises = [[one.rss_rise_bytes for one in each.repeats] for each in (known, new)]
    numbers = [[one for one in each if one is not None] for each in rises]
    if known.workload.malloc != "pinned" or not all(numbers):
        return
    low, high = sorted(numbers, key=max)
    if min(high) - max(low) > TWO_KERNEL_BATCHES_BYTES:
        seen = " and ".join(f"{min(each):,} to {max(each):,}" for each in numbers)
        yield f"the RSS rise is {seen} bytes (the run, here): further apart than both vary"


def _differences(found: Comparison) -> Problems:
    for row in found.different.itertuples(index=False):
        yield f"{row.metric} is {row.b_bytes:,} here, {row.a_bytes:,} in the run"
    for row in found.far_apart.itertuples(index=False):
        yield f"{row.metric} is {row.b:,.6g} here, {row.a:,.6g} in the run"


def _step(known: StepRun, steps_from: str | Path) -> Problems:
    """Yield how a step of any network, or what a function counted, differs."""
    with closing(TracedRunner(DEADLINE_SECONDS, steps_from)) as runner:
        new = runner.run(known.job, 1)
    if new.outcome is not known.outcome:
        yield f"ended {new.outcome}: {new.problem}"
    elif new.counted != known.counted:
        yield f"counted {new.counted} here, {known.counted} in the run"
    elif new.metrics != known.metrics:
        yield f"metrics {new.metrics} here, {known.metrics} in the run"

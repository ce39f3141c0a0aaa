"""Measures random configurations of a run again with ``harness sweep``; compares the records."""

import mmap
import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from msgspec.structs import replace

from harness.analysis.compare import Comparison, compare
from harness.analysis.frame import lines_if_there
from harness.plots.columns import typed_frame
from harness.plots.frames import COLUMNS, record_row
from harness.processes.start_child import own_interpreter
from harness.reporting.manifest import evidence_of
from harness.reporting.verify import Checked
from harness.schema import record, traced_run
from harness.schema.record import Outcome, Record
from harness.schema.traced_run import StepRun
from harness.sweeps.experiment_files import experiment_of, placed_job
from harness.sweeps.given_cells import GivenCells

Line = Record | StepRun
Problems = Iterator[str]
TWO_KERNEL_BATCHES_BYTES = 2 * max(32, 2 * (os.cpu_count() or 1)) * mmap.PAGESIZE
"""Largest error of the difference between two RSS readings: each reading may lack one batch of
Linux's page counts (``percpu_counter_batch``)."""
REPLICATES = 6
"""Number of fork servers that measure a configuration again."""


class _Way(NamedTuple):
    """Settings with which one sweep measures configurations again."""

    device: str
    gpu: str | None
    repeats: int
    fresh_servers: bool


def again(folder: Path, count: int, seed: int, given: Sequence[Path] = ()) -> Checked:
    """Measure ``count`` random configurations of the run in ``folder`` again, and compare records.

    Exact metrics must be equal, and noisy metrics must not differ by more than a factor of ten.
    With the malloc policy ``pinned``, the ranges of the RSS rise must overlap, or differ by at most
    two batches of the kernel's page counts. Repeats on one fork server are not independent, so each
    repeat has its own server. Only configurations and steps with the outcome ok are chosen.
    Thresholds and training runs are not measured again. ``given`` contains files of experiments, as
    for ``harness report --experiment``.
    """
    cells = dict(_lines(folder, given))
    chosen = random.Random(seed).sample(sorted(cells), min(count, len(cells)))
    ways = defaultdict[_Way, list[str]](list)
    for name in chosen:
        ways[_way(cells[name])].append(name)
    problems = []
    for way, names in ways.items():
        measured, why = _measured(way, [cells[name] for name in names])
        for name in names:
            known, new = cells[name], measured.get(cells[name].cell_id)
            differences = [why] if new is None else _differences(known, new)
            problems += [f"{name}: {problem}" for problem in differences]
    if not chosen:
        problems = ["no cell of this run can be measured again"]
    seen = f"{len(chosen)} of {len(cells):,} cells measured again, seed {seed}"
    return Checked(name="again", seen=seen, problems=tuple(problems))


def _lines(folder: Path, given: Sequence[Path]) -> Iterator[tuple[str, Line]]:
    """Yield the name and the record of each measurement that has the outcome ok."""
    for path in evidence_of(folder):
        kind, name = Path(path).name, Path(path).parent.as_posix()
        if kind == record.RECORDS:
            for cell in lines_if_there(folder / path, record.from_json):
                if cell.outcome is Outcome.OK:
                    yield f"{name}: {cell.workload}", cell
        elif kind == traced_run.STEP_RUNS:
            experiment = experiment_of((folder / path).parent, given)
            steps_from = experiment.steps_from if experiment else Path()
            for step in lines_if_there(folder / path, traced_run.from_json):
                if step.outcome is Outcome.OK:
                    placed = replace(step, job=placed_job(step.job, steps_from))
                    yield f"{name}: {step.job}", placed


def _way(known: Line) -> _Way:
    """Return the settings with which a record is measured again."""
    if isinstance(known, StepRun):
        return _Way("cpu", None, 1, fresh_servers=False)  # a step has a device of its own
    _, is_dry_run, gpu = str(known.environment.get("device", "")).rpartition("dry run, ")
    workload = known.workload
    varies = workload.malloc == "pinned" and workload.device == "cpu"  # from server to server
    repeats = REPLICATES if varies else max(1, len(known.repeats))
    return _Way(workload.device, gpu if is_dry_run else None, repeats, varies)


def _measured(way: _Way, lines: Sequence[Line]) -> tuple[Mapping[str, Line], str]:
    """Measure records again; return the new records by id, and why a record may be missing."""
    cells = GivenCells(
        workloads=tuple(one.workload for one in lines if isinstance(one, Record)),
        step_jobs=tuple(one.job for one in lines if isinstance(one, StepRun)),
        repeats=way.repeats,
        fresh_servers=way.fresh_servers,
    )
    with TemporaryDirectory(prefix="harness-again-") as out:
        file = Path(out, "again.py")
        cells.write(file)
        gpu = () if way.gpu is None else ("--gpu", way.gpu)
        sweep = ("sweep", str(file), "--out", out, "--device", way.device, *gpu)
        command = own_interpreter("harness.__main__", *sweep)
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        folder = Path(out, file.stem)
        new: list[Line] = list(lines_if_there(folder / record.RECORDS, record.from_json))
        new += lines_if_there(folder / traced_run.STEP_RUNS, traced_run.from_json)
    said = ended.stderr.decode(errors="replace").split("\n")
    last = next((line for line in reversed(said) if line.strip()), "")
    why = f"not measured: harness sweep ended with {ended.returncode}: {last}"
    return {line.cell_id: line for line in new}, why


def _differences(known: Line, new: Line) -> Problems:
    """Yield the differences between a record and its new measurement."""
    if new.outcome is not known.outcome:
        yield f"ended {new.outcome}: {new.evidence.get('message', '')}"
    elif isinstance(known, Record) and isinstance(new, Record):
        rows = ({"experiment": "cell", **record_row(one)} for one in (known, new))
        problems = [*_metrics(compare(*(typed_frame([row], COLUMNS) for row in rows)))]
        yield from problems
        here, there = (one.environment.get("cpu_bfloat16") for one in (new, known))
        type_ = known.workload.autocast or known.workload.dtype
        if problems and type_.endswith("float16") and there not in (None, here):
            yield f"cpu_bfloat16, which moves scratch memory, is {here} here, {there} in the run"
        yield from _rises(known, new)
    elif isinstance(known, StepRun) and isinstance(new, StepRun):
        if new.counted != known.counted:
            yield f"counted {new.counted} here, {known.counted} in the run"
        elif new.metrics != known.metrics:
            yield f"metrics {new.metrics} here, {known.metrics} in the run"


def _rises(known: Record, new: Record) -> Problems:
    """Yield a problem if the ranges of the RSS rise in both records are too far apart."""
    rises = [[one.rss_rise_bytes for one in each.repeats] for each in (known, new)]
    numbers = [[one for one in each if one is not None] for each in rises]
    if known.workload.malloc != "pinned" or not all(numbers):
        return
    low, high = sorted(numbers, key=max)
    if min(high) - max(low) > TWO_KERNEL_BATCHES_BYTES:
        seen = " and ".join(f"{min(each):,} to {max(each):,}" for each in numbers)
        yield f"the RSS rise is {seen} bytes (the run, here); this difference exceeds both spreads"


def _metrics(found: Comparison) -> Problems:
    for row in found.different.itertuples(index=False):
        yield f"{row.metric} is {row.b_bytes:,} here, {row.a_bytes:,} in the run"
    for row in found.far_apart.itertuples(index=False):
        yield f"{row.metric} is {row.b:,.6g} here, {row.a:,.6g} in the run"

"""Measures the time and memory of many records and of many cells.

    python benchmarks/scale.py [--records] [--scheduling] [--dask]

Without flags all parts run. ``--records`` prints CPU seconds and peak memory of load and report for
1,000, 10,000 and 100,000 records, each in a separate process, the exponent of growth between the
two largest, and the seconds of one append. ``--scheduling`` prints the milliseconds of a cell
without its measurement, by an executor that does not measure. ``--dask`` prints the same through a
Dask cluster on this machine, with 1, 2 and 4 workers.
"""

import argparse
import dataclasses
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from harness.measurement.measure import measure
from harness.schema.experiment import Experiment, Size
from harness.schema.findings import Section
from harness.schema.record import Record, to_json
from harness.schema.workload import Workload
from harness.sweeps.executors import Cell, Executor, Measured
from harness.sweeps.store import LineStore
from harness.sweeps.sweep import run

COUNTS = (1_000, 10_000, 100_000)
_CHILD = """
import resource, sys, time
from pathlib import Path
folder, what = Path(sys.argv[1]), sys.argv[2]
from harness.analysis.frame import load
from harness.reporting.report import write_report
started = time.process_time()  # the machine's other work is not counted
load(folder) if what == "load" else write_report(folder)
seconds = time.process_time() - started
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def workloads(count: int) -> Iterator[Workload]:
    """Yield the depth-batch grid repeatedly, each time with another seed."""
    from experiments.depth_batch import EXPERIMENT

    grid = list(EXPERIMENT.cells(Size.DEFAULT))
    for number in range(count):
        yield dataclasses.replace(grid[number % len(grid)], seed=number // len(grid))


def records(count: int) -> Iterator[Record]:
    """Yield realistic records, made of one measurement with other workloads."""
    pattern = measure(Workload(width=256, depth=4, batch=64))
    for workload in workloads(count):
        scale = workload.depth * workload.batch
        yield msgspec.structs.replace(
            pattern,
            workload=workload,
            workload_id=workload.id,
            peak_live_bytes=1024 * scale,
            saved_bytes=1000 * scale,
        )


def print_records() -> None:
    print(f"{'records':>8} {'load s':>8} {'MiB':>8} {'report s':>9} {'MiB':>8}")
    seconds: dict[str, list[float]] = {"load": [], "report": []}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "depth_batch"
            folder.mkdir()
            with (folder / "records.jsonl").open("wb") as file:
                file.writelines(to_json(record) + b"\n" for record in records(count))
            cells = []
            for what in ("load", "report"):
                command = [sys.executable, "-c", _CHILD, name, what]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                taken, peak_bytes = map(float, out.split())
                seconds[what].append(taken)
                cells.append(f"{taken:>8.2f} {peak_bytes / 2**20:>8.0f}")
        print(f"{count:>8,} {' '.join(cells)}", flush=True)
    for what, taken in seconds.items():
        exponent = math.log10(taken[-1] / taken[-2])
        print(
            f"growth of {what}, {COUNTS[-2]:,} to {COUNTS[-1]:,} records: exponent {exponent:.2f}"
        )


def print_append() -> None:
    kept = list(records(2_000))
    with tempfile.TemporaryDirectory() as name, LineStore(Path(name), Record) as store:
        started = time.perf_counter()
        for record in kept:
            store.append(record)
        each = (time.perf_counter() - started) / len(kept)
    print(f"append with fsync: {each * 1e3:.2f} ms a record")


class Nothing:
    """An executor that returns existing records at once."""

    name = "nothing"

    def __init__(self) -> None:
        self._pattern = next(records(1))

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        future: Future[Measured] = Future()
        workload = cell.workload
        record = msgspec.structs.replace(
            self._pattern, workload=workload, workload_id=workload.id, attempt=attempt
        )
        future.set_result((record, None))
        return future

    def capacity(self) -> int:
        return 2

    def room_bytes(self, workload: Workload) -> int | None:
        del workload
        return 1 << 50

    def check(self) -> None:
        return None

    def close(self) -> None:
        return None


class Silent:
    """A progress that prints nothing."""

    def begin(self, *_: object, **__: object) -> None:
        return None

    def cell(self, *_: object, **__: object) -> None:
        return None


def swept_seconds(cells: list[Workload], executor: Executor) -> float:
    """Return the seconds of a sweep of ``cells``."""
    experiment = Experiment(
        name="scale",
        title="",
        question="",
        cells=lambda _: cells,
        analyse=lambda _: Section(),
        repeats=1,
    )
    with tempfile.TemporaryDirectory() as name:
        started = time.perf_counter()
        run(experiment, Size.QUICK, Path(name), Silent(), executor=executor)
        return time.perf_counter() - started


def print_scheduling() -> None:
    for count in (1_000, 10_000):
        each = swept_seconds(list(workloads(count)), Nothing()) / count
        print(f"coordinator, {count:,} cells: {each * 1e3:.2f} ms a cell (prediction, append)")


def print_executors(dask: bool) -> None:
    from harness.sweeps.executors import make_executor

    executors = [("local", 1), ("local", 2)] + (
        [("dask", jobs) for jobs in (1, 2, 4)] if dask else []
    )
    for name, jobs in executors:
        executor = make_executor(name, jobs=jobs)
        tiny = [Workload(width=8, in_features=8, batch=2, seed=seed) for seed in range(64)]
        try:
            swept_seconds(tiny[: 4 * jobs], executor)  # servers start
            each = swept_seconds(tiny, executor) / len(tiny)
        finally:
            executor.close()
        print(f"{name}, {jobs} at once: {each * 1e3:.0f} ms a cell of width 8", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--records", "--scheduling", "--dask"):
        parser.add_argument(flag, action="store_true")
    request = parser.parse_args()
    everything = not (request.records or request.scheduling or request.dask)
    if request.records or everything:
        print_records()
        print_append()
    if request.scheduling or everything:
        print_scheduling()
    if request.scheduling or request.dask or everything:
        print_executors(dask=request.dask or everything)


if __name__ == "__main__":
    main()

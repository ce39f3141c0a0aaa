"""Compares the time of the full grid through the harness with the same plain steps.

One run has two parts. The first is the grid of ``experiments/depth_batch`` through the harness. The
second is the same number of plain steps of the same workloads, one after the other in one process.
Cells alternate between the parts, so that a drift of the machine's speed affects both.

    python benchmarks/sweep_cost.py [--quick]
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

from experiments.depth_batch import EXPERIMENT
from harness.measurement.measure import measure
from harness.processes.launcher import ForkLauncher
from harness.processes.malloc_policy import ENVIRONMENT
from harness.schema.experiment import Size
from harness.schema.record import Outcome
from harness.schema.workload import Workload

_PLAIN = """
import json, sys, time
import msgspec, torch
from harness.training import data
from harness.training import training_step as training
from harness.processes.worker import prime
from harness.schema.workload import Workload
prime()
for line in sys.stdin:
    fields, steps = json.loads(line)
    workload = msgspec.convert(fields, Workload)
    torch.set_num_threads(workload.threads)
    built = training.build(workload, data.source(workload))
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(steps):
        training.step(built)
    seconds = [time.perf_counter() - start, time.process_time() - busy]
    print(json.dumps(seconds), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Seconds of all cells."""

    wall: float
    busy: float
    """Processor seconds of all processes."""


def steps_of(workload: Workload, repeats: int) -> int:
    """Return the number of steps that the harness runs for a cell, in all its passes."""
    return 1 + repeats + 1 + (2 if workload.mode == "train" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small grid")
    given = parser.parse_args()
    cells = list(EXPERIMENT.cells(Size.QUICK if given.quick else Size.FULL))
    command = [sys.executable, "-c", _PLAIN]
    environment = {"PATH": "", **ENVIRONMENT["pinned"]}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as plain:
        through, bare = alternate(cells, plain)
    report(len(cells), through, bare)


def alternate(cells: list[Workload], plain: "subprocess.Popen[str]") -> tuple[Seconds, Seconds]:
    """Return the seconds of all cells through the harness and of their plain steps."""
    assert plain.stdin is not None, "it is a pipe"
    assert plain.stdout is not None, "it is a pipe"
    launcher = ForkLauncher("pinned")
    measure(cells[0], launcher=launcher)  # starts the fork server
    (server,) = (one for one in psutil.Process().children() if one.pid != plain.pid)
    begun = busy_seconds(server)
    through, bare, bare_busy = 0.0, 0.0, 0.0
    for cell in cells:
        start = time.perf_counter()
        record = measure(cell, repeats=EXPERIMENT.repeats, launcher=launcher)
        through += time.perf_counter() - start
        assert record.outcome is Outcome.OK, record.evidence
        plain.stdin.write(json.dumps([cell.changed(), steps_of(cell, EXPERIMENT.repeats)]) + "\n")
        plain.stdin.flush()
        wall, busy = json.loads(plain.stdout.readline())
        bare += wall
        bare_busy += busy
    busy = busy_seconds(server) - begun
    launcher.close()
    return Seconds(wall=through, busy=busy), Seconds(wall=bare, busy=bare_busy)


def busy_seconds(server: psutil.Process) -> float:
    """Return the processor seconds of this process, the fork server and its workers."""
    times = server.cpu_times()
    workers: float = times.children_user + times.children_system
    return time.process_time() + float(times.user + times.system) + workers


def report(cells: int, through: Seconds, bare: Seconds) -> None:
    print(f"cells                              {cells}            by the clock   of the processors")
    print(f"plain steps, one process           {bare.wall:12.1f} s {bare.busy:18.1f} s")
    print(f"through the harness                {through.wall:12.1f} s {through.busy:18.1f} s")
    ratios = through.wall / bare.wall, through.busy / bare.busy
    print(f"  times the plain steps            {ratios[0]:12.2f} x {ratios[1]:18.2f} x")
    more = (through.wall - bare.wall) / cells, (through.busy - bare.busy) / cells
    print(f"  more than the steps, per cell    {more[0]:12.3f} s {more[1]:18.3f} s")


if __name__ == "__main__":
    main()

"""What the harness costs: the full grid through it, against the same steps run plainly.

In one run: (1) the grid of ``experiments/depth_batch`` through the harness; (2) as many plain
steps of the same workloads, one after the other in one process, timed alone; (3) a fresh
interpreter per process for a sample of cells, scaled up. Cells alternate between (1) and (2),
so that a drift of the machine's speed meets both.

    python benchmarks/sweep_cost.py [--quick]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from experiments.depth_batch import EXPERIMENT
from harness.measurement.malloc_settings import ENVIRONMENT
from harness.measurement.measure import measure
from harness.measurement.process.launcher import ForkLauncher, SpawnLauncher
from harness.schema.experiment import Size
from harness.schema.record import Outcome
from harness.schema.workload import Workload

SPAWNED_CELLS = 6

_PLAIN = """
import json, sys, time
import msgspec, torch
from harness.training import data
from harness.training import training_step as training
from harness.measurement.process.worker import prime
from harness.schema.workload import Workload
prime()
for line in sys.stdin:
    fields, steps = json.loads(line)
    workload = msgspec.convert(fields, Workload)
    torch.set_num_threads(workload.threads)
    built = training.build(workload, data.source(workload))
    start = time.perf_counter()
    for _ in range(steps):
        training.step(built)
    print(time.perf_counter() - start, flush=True)
"""


def steps_of(workload: Workload, repeats: int) -> int:
    """Return how many steps the harness runs for a cell: warm-up, repeats, saved, trace."""
    return 1 + repeats + 1 + (2 if workload.mode == "train" else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small grid")
    size = Size.QUICK if parser.parse_args().quick else Size.FULL
    cells = list(EXPERIMENT.cells(size))
    command = [sys.executable, "-c", _PLAIN]
    environment = {"PATH": "", **ENVIRONMENT["pinned"]}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as plain:
        harness_seconds, plain_seconds = alternate(cells, plain)
    spawn_seconds = spawned(cells[:: max(1, len(cells) // SPAWNED_CELLS)])
    report(len(cells), harness_seconds, plain_seconds, spawn_seconds)


def alternate(cells: list[Workload], plain: "subprocess.Popen[str]") -> tuple[float, float]:
    """Return the seconds of all cells through the harness and of their plain steps."""
    assert plain.stdin is not None, "it is a pipe"
    assert plain.stdout is not None, "it is a pipe"
    launcher = ForkLauncher("pinned")
    measure(cells[0], launcher=launcher)  # starts the forkserver
    through, bare = 0.0, 0.0
    for cell in cells:
        start = time.perf_counter()
        record = measure(cell, repeats=EXPERIMENT.repeats, launcher=launcher)
        through += time.perf_counter() - start
        assert record.outcome is Outcome.OK, record.evidence
        plain.stdin.write(json.dumps([cell.changed(), steps_of(cell, EXPERIMENT.repeats)]) + "\n")
        plain.stdin.flush()
        bare += float(plain.stdout.readline())
    launcher.close()
    return through, bare


def spawned(cells: list[Workload]) -> float:
    """Return the median seconds by which a fresh interpreter per process is slower per cell."""
    fork, spawn = ForkLauncher("pinned"), SpawnLauncher("pinned")
    measure(cells[0], launcher=fork)
    extra = []
    for cell in cells:
        seconds = []
        for launcher in (fork, spawn):
            start = time.perf_counter()
            measure(cell, repeats=EXPERIMENT.repeats, launcher=launcher)
            seconds.append(time.perf_counter() - start)
        extra.append(seconds[1] - seconds[0])
    fork.close()
    return statistics.median(extra)


def report(cells: int, through: float, bare: float, spawn_extra: float) -> None:
    overhead = through - bare
    print(f"cells                              {cells}")
    print(f"plain steps, one process           {bare:8.1f} s")
    print(f"through the harness                {through:8.1f} s   {through / bare:.2f} x")
    print(f"  more than the steps, per cell    {overhead / cells:8.3f} s")
    print(f"  allowed: 1.5 x + 0.15 s per cell {1.5 * bare + 0.15 * cells:8.1f} s")
    print(f"a fresh interpreter per process    {through + cells * spawn_extra:8.1f} s   (sampled)")
    print(f"  more than a fork, per cell       {spawn_extra:8.3f} s")


if __name__ == "__main__":
    main()

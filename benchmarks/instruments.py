"""Measures the time of each instrument as a ratio to a plain step, interleaved in one run.

Each round runs the plain step and every instrument once, one after another. The result is the
median over rounds of the ratio to the plain step of the same round. An instrument's time includes
its start, the step, its stop and the collection of its events.

    python benchmarks/instruments.py [--rounds 11] [--json]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # or each start of the profiler is a line

import torch
from torch.distributed._tools.mem_tracker import MemTracker
from torch.profiler import ProfilerActivity

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.saved_tensors import SavedTensors
from harness.measurement.passes import saved_pass
from harness.schema.workload import Workload
from harness.training import data, training_step
from harness.training.module_step import BuiltStep, no_phase, run_step

CELLS = ((1, 256), (8, 512), (64, 32), (64, 2048))
GOALS = {(64, 32): 1.7, (64, 2048): 1.1}


def plain(built: BuiltStep) -> None:
    run_step(built)


def _trace(built: BuiltStep, *, operators: bool) -> None:
    with AllocationRecorder(operators=operators) as recorder:
        recorder.mark(tensor_roles.parameter_addresses(built.model))
        recorder.mark(tensor_roles.input_addresses(built.x, built.y))
        saved = SavedTensors(recorder.mark_saved)
        with saved.watch(), recorder.module_scopes(built.model):
            run_step(built, recorder.phase)
        recorder.mark(tensor_roles.gradient_addresses(built.model))
        recorder.mark(tensor_roles.state_addresses(built.optimizer))
    assert recorder.trace.events


def our_trace(built: BuiltStep) -> None:
    """Trace every event, phase, module and category, as ``harness measure`` does."""
    _trace(built, operators=False)


def our_trace_with_operators(built: BuiltStep) -> None:
    """Trace each event with the path of operators around it, as for a timeline."""
    _trace(built, operators=True)


def our_saved_pass(built: BuiltStep) -> None:
    saved_pass(built, no_phase)


def mem_tracker(built: BuiltStep) -> None:
    tracker = MemTracker()
    tracked = (built.model, built.optimizer, built.x, built.y)
    tracker.track_external(*[one for one in tracked if one is not None])
    with tracker:
        run_step(built)
    tracker.get_tracker_snapshot("peak")


def torch_profiler(built: BuiltStep) -> None:
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        run_step(built)
    assert run.events()


def memray_tracker(built: BuiltStep) -> None:
    import memray

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.bin"
        with memray.Tracker(path):
            run_step(built)
        with memray.FileReader(path) as reader:
            list(reader.get_high_watermark_allocation_records())


def tracemalloc_snapshot(built: BuiltStep) -> None:
    tracemalloc.start()
    run_step(built)
    tracemalloc.take_snapshot()
    tracemalloc.stop()


def instruments() -> list[Callable[[BuiltStep], None]]:
    """Return the installed instruments."""
    result: list[Callable[[BuiltStep], None]] = [
        our_trace,
        our_trace_with_operators,
        our_saved_pass,
        mem_tracker,
        torch_profiler,
        tracemalloc_snapshot,
    ]
    try:
        import memray  # noqa: F401 -- only whether it is there
    except ImportError:
        print("memray is not installed: left out", file=sys.stderr)
    else:
        result.append(memray_tracker)
    return result


def measure_cell(depth: int, batch: int, rounds: int) -> dict[str, Any]:
    """Return the plain step's median seconds and each instrument's median ratio to it."""
    workload = Workload(depth=depth, batch=batch)
    built = training_step.build(workload, data.source(workload))
    runs = [plain, *instruments()]
    for run in runs:
        run(built)
    seconds: dict[str, list[float]] = {run.__name__: [] for run in runs}
    for _ in range(rounds):
        for run in runs:
            start = time.perf_counter()
            run(built)
            seconds[run.__name__].append(time.perf_counter() - start)
    base = seconds.pop("plain")
    ratios = {
        name: statistics.median(a / b for a, b in zip(times, base, strict=True))
        for name, times in seconds.items()
    }
    return {
        "depth": depth,
        "batch": batch,
        "rounds": rounds,
        "plain_seconds": statistics.median(base),
        "ratios": ratios,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for depth, batch in CELLS:
        cell = measure_cell(depth, batch, arguments.rounds)
        if arguments.json:
            print(json.dumps(cell))
            continue
        print(f"depth {depth}, batch {batch}: a plain step {cell['plain_seconds'] * 1000:.1f} ms")
        for name, ratio in cell["ratios"].items():
            goal = GOALS.get((depth, batch)) if name == "our_trace" else None
            said = f"  (goal {goal}: {'met' if ratio <= goal else 'missed'})" if goal else ""
            print(f"  {name.replace('_', ' '):32} {ratio:6.2f}{said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

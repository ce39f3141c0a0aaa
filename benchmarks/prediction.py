"""Measures the time of a prediction by depth, next to MemTracker on fake tensors.

    python benchmarks/prediction.py [--full | --networks]

The script prints milliseconds (the best of several runs, because other work only adds time), and
whether the time is linear in depth. MemTracker's own time grows faster than linearly, so without
``--full`` it runs only at small depths. ``--networks`` times ``harness predict TARGET``, and
compares it and other estimators with PyTorch's own allocator (``network_prediction.py``).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.predict_workload import predict
from harness.schema.events import trace_metrics
from harness.schema.workload import Workload
from harness.training.module_step import run_step

DEPTHS = (64, 256, 1024)
FAKE_DEPTHS = (16, 32, 64)
PROCESS = (
    "import sys; from harness.schema.workload import Workload; "
    "from harness.prediction.mlp.predict_workload import predict; "
    "predict(Workload(depth={depth})); "
    "assert 'torch' not in sys.modules"
)


def best_ms(run: Callable[[], object], times: int = 7) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1000


def print_ours(workload: Workload) -> float:
    trace_ms = best_ms(lambda: predict_trace(workload))
    figures_ms = best_ms(lambda: predict(workload))
    budget_ms = best_ms(lambda: predict(workload, budget_bytes=1 << 34), times=3)
    events = len(predict_trace(workload).events)
    print(
        f"{workload.depth:>6} {events:>8} {trace_ms:>10.1f} {figures_ms:>12.1f} {budget_ms:>12.1f}"
        f" {trace_ms / workload.depth * 1000:>14.1f}"
    )
    return trace_ms


def print_process(depth: int) -> None:
    def run() -> None:
        subprocess.run([sys.executable, "-c", PROCESS.format(depth=depth)], check=True)

    def nothing() -> None:
        subprocess.run([sys.executable, "-c", "pass"], check=True)

    print(f"whole process, depth {depth}: {best_ms(run, 5):.0f} ms; an empty one: "
          f"{best_ms(nothing, 5):.0f} ms")  # fmt: skip


def fake_step(workload: Workload) -> tuple[float, int]:
    """Return the seconds of MemTracker's build and two fake steps, and its peak's bytes."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    from harness.training.training_step import build

    start = time.perf_counter()
    with FakeTensorMode():
        built = build(workload, lambda *_: None)
        run_step(built)
        tracker = MemTracker()
        assert built.optimizer is not None
        assert built.y is not None
        tracker.track_external(built.model, built.optimizer, built.x, built.y)
        with tracker:
            run_step(built)
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    return time.perf_counter() - start, peak


def print_fake(depth: int) -> None:
    workload = Workload(depth=depth)
    seconds, peak = fake_step(workload)
    ours = best_ms(lambda: trace_metrics(predict_trace(workload)), 3) / 1000
    predicted = trace_metrics(predict_trace(workload))["peak_live_bytes"]
    print(
        f"{depth:>6} {seconds:>12.2f} {ours:>12.4f} {seconds / ours:>10.0f} {peak - predicted:>18}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="MemTracker at depth 256 too")
    parser.add_argument("--networks", action="store_true", help="ResNet-50, ViT and GPT-2 instead")
    options = parser.parse_args()
    if options.networks:
        from network_prediction import print_commands, print_errors

        print_commands()
        print_errors()
        return
    full = options.full
    print(f"{'depth':>6} {'events':>8} {'trace ms':>10} {'metrics ms':>12} {'budget ms':>12}"
          f" {'trace us/layer':>14}")  # fmt: skip
    times = [print_ours(Workload(depth=depth)) for depth in DEPTHS]
    growth = (times[-1] / times[0]) / (DEPTHS[-1] / DEPTHS[0])
    print(f"time per layer at depth {DEPTHS[-1]}, over depth {DEPTHS[0]}: {growth:.2f}")
    print_process(DEPTHS[-1])
    print(f"\n{'depth':>6} {'fake s':>12} {'ours s':>12} {'ratio':>10} {'peak difference':>18}")
    for depth in (*FAKE_DEPTHS, 256) if full else FAKE_DEPTHS:
        print_fake(depth)


if __name__ == "__main__":
    main()

"""Record what steps on CUDA ask of the allocator, for tests that need neither GPU nor dry run.

    python -m benchmarks.validation.record_events --out tests/prediction

Writes ``cuda_events.json``: of each workload the events of build and steps (step, phase, bytes
requested, number of the block), read from the allocator's own history, and the peaks of each
phase. ``tests/prediction/test_cuda_events.py`` holds the predictions against it.

    python record_events.py FLAGS.json OUT.jsonl    # on a pretended GPU

records each workload of a list in a fork of its own.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.validation.dry_run import parser, run_on, stub_gpu
from harness.dry_run.pretended_gpu import PretendedGpu

STEPS = 4
PEAKS = ("requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes")

GPUS = {
    "8.0": stub_gpu("8.0", multiprocessors=108),
    "8.9": stub_gpu("8.9", multiprocessors=58),
    "9.0": stub_gpu("9.0", multiprocessors=132),
}

SMALL = {"hidden": [12, 7], "in_features": 20, "classes": 5, "batch": 9}
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("8.0", {**SMALL, "optimizer": "sgd"}),
    ("8.0", {**SMALL, "optimizer": "adam", "activation": "gelu"}),
    ("8.0", {**SMALL, "optimizer": "momentum", "accumulate": 3}),
    ("8.9", {**SMALL, "optimizer": "adamw", "foreach": "off", "activation": "tanh"}),
    ("8.0", {**SMALL, "model": "mlp-scratch", "optimizer": "adamw"}),
    ("8.0", {**SMALL, "checkpoint": 2, "optimizer": "adam"}),
    ("9.0", {**SMALL, "model": "mlp-scratch", "checkpoint": 1, "activation": "sigmoid"}),
    ("9.0", {**SMALL, "mode": "inference"}),
    ("9.0", {**SMALL, "batch": 20_000, "optimizer": "adam"}),
    ("8.9", {**SMALL, "batch": 20_000, "dtype": "bfloat16"}),
    ("8.0", {**SMALL, "batch": 20_000, "norm": "batch", "optimizer": "adam"}),
    ("9.0", {**SMALL, "batch": 70_000, "norm": "layer", "dtype": "float16"}),
    ("8.0", {**SMALL, "dropout": 0.2, "activation": "silu", "optimizer": "adam"}),
    ("9.0", {**SMALL, "norm": "layer", "dropout": 0.1, "mode": "inference"}),
    ("8.0", {"depth": 3, "width": 700, "batch": 1500, "optimizer": "adam"}),
    ("9.0", {"hidden": [2000, 90, 1100], "batch": 333, "optimizer": "momentum"}),
)
LAST_ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("8.0", {"hidden": [2000, 33, 256], "batch": 256, "activation": "gelu", "last_rows": 89}),
    (
        "8.9",
        {"hidden": [64, 256, 256, 64, 2000, 33], "batch": 2048, "optimizer": "adamw"}
        | {"activation": "gelu", "last_rows": 1007},
    ),
    (
        "9.0",
        {"hidden": [1024, 64, 500], "batch": 2048, "optimizer": "momentum", "norm": "batch"}
        | {"last_rows": 178},
    ),
    ("8.0", {"hidden": [500], "batch": 2048, "accumulate": 2, "last_rows": 630}),
    ("8.9", {"depth": 3, "batch": 777, "optimizer": "adam", "dropout": 0.2, "last_rows": 1}),
    ("9.0", {"depth": 4, "batch": 999, "mode": "inference", "last_rows": 500}),
)
"""With a smaller step of that many rows after the others, then a whole one."""
CONFIGURED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("8.0", ":4096:8", {**SMALL, "optimizer": "adam"}),
    ("9.0", ":16:8:4096:2", {**SMALL, "optimizer": "momentum", "accumulate": 3}),
    ("8.9", ":0:0", {**SMALL, "norm": "batch", "dropout": 0.5, "optimizer": "adam"}),
    ("8.0", "large", {**SMALL, "optimizer": "sgd"}),
)
"""Under CUBLAS_WORKSPACE_CONFIG; the last is one that PyTorch cannot read."""


def record(flags: dict[str, Any]) -> dict[str, Any]:
    """Run the steps on the (pretended) GPU of this process; return events and peaks.

    With ``last_rows`` a step on that many of the batch's rows follows, and a whole one.
    """
    import torch

    from harness.schema.workload import Workload
    from harness.training import data, training_step

    flags = {k: tuple(v) if k == "hidden" else v for k, v in flags.items()}
    last_rows = flags.pop("last_rows", None)
    workload = Workload(**{"device": "cuda", **flags})
    passages: list[tuple[int, str, int, int]] = []
    peaks: list[list[Any]] = []
    step = 0

    def length() -> int:
        snapshot: Any = torch.cuda.memory._snapshot
        return len(snapshot()["device_traces"][0])

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        start = length()
        torch.cuda.reset_peak_memory_stats()
        yield
        stats = torch.cuda.memory_stats()
        peaks.append([step, name, *(stats[f"{counter}.all.peak"] for counter in PEAKS)])
        passages.append((step, name, start, length()))

    torch.cuda.memory._record_memory_history("all", context=None, stacks="python")
    with phase("build"):
        built = training_step.build(workload, data.source(workload))
    y = None if built.y is None else built.y[:last_rows]
    smaller = replace(built, x=built.x[:last_rows], y=y)
    for step in range(1, STEPS + 1 + 2 * (last_rows is not None)):
        training_step.step(smaller if step == STEPS + 1 else built, phase)
    snapshot: Any = torch.cuda.memory._snapshot
    return {"events": numbered(snapshot()["device_traces"][0], passages), "peaks": peaks}


def numbered(
    trace: list[dict[str, Any]], passages: list[tuple[int, str, int, int]]
) -> list[list[Any]]:
    """Return blocks allocated and freed, with running numbers in place of addresses."""
    numbers: dict[int, int] = {}
    events: list[list[Any]] = []
    for step, phase, start, stop in passages:
        for entry in trace[start:stop]:
            size, address = entry["size"], entry["addr"]
            if entry["action"] == "alloc":
                numbers[address] = 1 + sum(event[2] > 0 for event in events)
                events.append([step, phase, size, numbers[address]])
            elif entry["action"] == "free_requested":
                events.append([step, phase, -size, numbers.pop(address)])
    return events


def record_all(flags: Path, out: Path) -> None:
    """Record each workload of the list in ``flags``, one line of JSON each."""
    import torch._dynamo  # noqa: F401 -- an optimizer's first step would load it in every fork

    for one in json.loads(flags.read_text()):
        child = os.fork()
        if child == 0:
            with out.open("a") as file:
                file.write(json.dumps(record(one)) + "\n")
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"not recorded: {one}")


def record_on(
    gpu: PretendedGpu,
    workloads: Sequence[dict[str, Any]],
    workspace_config: str | None = None,
) -> list[dict[str, Any]]:
    """Return events and peaks of each of the workloads on a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        flags, out = Path(folder) / "flags.json", Path(folder) / "out.jsonl"
        flags.write_text(json.dumps(workloads))
        run_on(gpu, [Path(__file__), flags, out], workspace_config=workspace_config)
        return [json.loads(line) for line in out.read_text().splitlines()]


def main() -> int:
    """Record every case in a process of its own, and write the file; return the exit code."""
    if len(sys.argv) == 3:
        record_all(Path(sys.argv[1]), Path(sys.argv[2]))
        return 0
    arguments = parser(__doc__).parse_args()
    recordings = []
    for capability, gpu in GPUS.items():
        workloads = [flags for on, flags in (*CASES, *LAST_ROWS) if on == capability]
        head = {"capability": capability, "multiprocessors": gpu.multiprocessors}
        for flags, predicted in zip(workloads, record_on(gpu, workloads), strict=True):
            recordings.append({**head, "workload": flags, **predicted})
    for capability, config, flags in CONFIGURED:
        gpu = GPUS[capability]
        head = {"capability": capability, "multiprocessors": gpu.multiprocessors}
        (predicted,) = record_on(gpu, [flags], config)
        recordings.append({**head, "workspace_config": config, "workload": flags, **predicted})
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in recordings)
    (arguments.out / "cuda_events.json").write_text(f"[\n{lines}\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

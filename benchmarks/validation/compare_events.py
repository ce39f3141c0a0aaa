"""Draw workloads, and hold the events predicted for them against those of PyTorch's allocator.

    python -m benchmarks.validation.compare_events --out FOLDER

Writes ``events.md`` and ``events.csv``; exit code 1 if any event or any phase's peak differs.

    python -m benchmarks.validation.compare_events --again tests/prediction/cuda_events.json

records the workloads of that file anew: the events of build and steps (step, phase, bytes
requested, number of the block), read from the allocator's own history, and the peaks of each phase.
``tests/prediction/test_cuda_events.py`` holds the predictions against it.

    python compare_events.py record FLAGS.json OUT.jsonl    # on a pretended GPU

records each workload of a list in a fork of its own.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.validation.compare_predictions import GPUS
from benchmarks.validation.dry_run import parser, run_on, stub_gpu, write_table
from harness.allocator import CachingAllocator
from harness.dry_run.pretended_gpu import PretendedGpu
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.simulation import simulate_steps
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.schema.workload import (
    ACTIVATIONS,
    AUTOCAST_DTYPES,
    DTYPES,
    OPTIMIZERS,
    Workload,
    WorkloadError,
)

STEPS = 4
PEAKS = ("requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes")


def record(flags: dict[str, Any]) -> dict[str, Any]:
    """Run the steps on the (pretended) GPU of this process; return events and peaks.

    With ``last_rows`` a step on that many of the batch's rows follows, and a whole one.
    """
    import torch

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
        run_on(gpu, [__file__, "record", flags, out], workspace_config=workspace_config)
        return [json.loads(line) for line in out.read_text().splitlines()]


def draw(random: Random) -> Workload:
    """Return a workload of any kind that can be predicted."""
    while True:
        try:
            return Workload(device="cuda", **_fields(random))
        except WorkloadError:
            continue


def _fields(random: Random) -> dict[str, Any]:
    width = (lambda: random.randrange(1, 700), lambda: 1 << random.randrange(12))
    rows = (lambda: random.randrange(1, 5000), lambda: random.randrange(60_000, 200_000))
    fields: dict[str, Any] = {
        "model": random.choice(("mlp", "mlp", "mlp-scratch")),
        "hidden": tuple(random.choice(width)() for _ in range(random.randrange(1, 6))),
        "in_features": random.choice((1, 784, random.randrange(1, 1000))),
        "classes": random.choice((1, 2, 10, 1000)),
        "batch": random.choice((*rows, lambda: 1 << random.randrange(17)))(),
        "activation": random.choice(ACTIVATIONS),
        "dtype": random.choice(("float32", *DTYPES)),
        "optimizer": random.choice(OPTIMIZERS),
        "foreach": random.choice(("auto", "on", "off")),
        "mode": random.choice(("train", "train", "train", "train", "inference")),
    }
    if random.random() < 0.15:
        autocast = random.choice(AUTOCAST_DTYPES)
        return fields | {"model": "mlp", "dtype": "float32", "autocast": autocast}
    if fields["mode"] == "train":
        fields["checkpoint"] = random.choice((0, 0, random.randrange(1, 5)))
        fields["accumulate"] = random.choice((1, 1, random.randrange(1, 5)))
    if fields["model"] == "mlp":
        fields["norm"] = random.choice(("none", "batch", "layer"))
        fields["dropout"] = random.choice((0.0, 0.3))
        if fields["norm"] != "none" or fields["dropout"]:
            fields.pop("checkpoint", None)  # not predicted together
    return fields


def differences(workload: Workload, gpu: Gpu, predicted: dict[str, Any]) -> tuple[bool, int, int]:
    """Return whether all events are equal, and how many peaks are compared and how many equal."""
    script = CudaSteps(workload, gpu)
    events = [[e.step, e.phase, e.size_bytes, e.address] for e in script.trace(STEPS).events]
    recorded: dict[tuple[int, str], list[Sequence[int]]] = {}
    for step, phase, *peaks in predicted["peaks"]:
        recorded.setdefault((step, phase), []).append(peaks)
    simulated = simulate_steps(script, CachingAllocator(), STEPS)
    equal = sum(
        tuple(map(max, zip(*peaks, strict=True))) == simulated[step][phase]
        for (step, phase), peaks in recorded.items()
        if phase in simulated[step]
    )
    same = in_order_of_forward_returns(events) == in_order_of_forward_returns(predicted["events"])
    return same, 4 * sum(p in simulated[s] for s, p in recorded), 4 * equal


def in_order_of_forward_returns(events: Sequence[list[Any]]) -> list[list[Any]]:
    """Return the events with neighbouring returns of a forward pass sorted.

    Autocast empties its cache in the order of a hash table of addresses.
    """
    ordered: list[list[Any]] = []
    for is_return, group in groupby(events, lambda e: e[1] == "forward" and e[2] < 0):
        neighbours = list(group)
        ordered += sorted(neighbours) if is_return else neighbours
    return ordered


def record_again(path: Path) -> None:
    """Record the workloads of a file anew, each on the GPU that the file names."""
    recordings = json.loads(path.read_text())
    for one in recordings:
        gpu = stub_gpu(one["capability"], multiprocessors=one["multiprocessors"])
        (recorded,) = record_on(gpu, [one["workload"]], one.get("workspace_config"))
        one |= recorded
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in recordings)
    path.write_text(f"[\n{lines}\n]\n")


def main() -> int:
    """Draw, record, compare and write; return the exit code."""
    match sys.argv[1:]:
        case ["--again", file]:
            record_again(Path(file))
            return 0
        case ["record", flags, out]:
            record_all(Path(flags), Path(out))
            return 0
    options = parser(__doc__)
    options.add_argument("--workloads", type=int, default=100, help="on each GPU")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    random, rows, all_equal = Random(arguments.seed), [], True
    for pretended in GPUS:
        gpu = Gpu(
            name="the pretended GPU",
            capability=pretended.capability,
            multiprocessors=pretended.multiprocessors,
            threads_per_multiprocessor=pretended.threads_per_multiprocessor,
            total_bytes=pretended.total_bytes,
        )
        workloads = [draw(random) for _ in range(arguments.workloads // arguments.every)]
        recordings = record_on(pretended, [w.changed() for w in workloads])
        results = [
            (*differences(workload, gpu, recorded), len(recorded["events"]))
            for workload, recorded in zip(workloads, recordings, strict=True)
        ]
        for workload, (same, compared, equal, _) in zip(workloads, results, strict=True):
            if not same or compared != equal:
                print("differs:", workload, flush=True)
                all_equal = False
        alike, peaks, equal_peaks, events = map(sum, zip(*results, strict=True))
        cells = (pretended.name.split()[1], len(workloads), alike, events, peaks, equal_peaks)
        rows.append([str(cell) for cell in cells])
        print(*rows[-1], flush=True)
    summary = (
        f"Random workloads (seed {arguments.seed}) of any depth, width, batch, activation, "
        "normalization, dropout, type, autocast, optimizer, checkpoints and micro-batches, in "
        f"training and inference: the build and {STEPS} steps, each event's step, phase, bytes "
        "requested and block in order, and the four peaks of each phase under ascending "
        "addresses. Where autocast empties its cache, the order is a hash table's. Written by "
        "`benchmarks/validation/compare_events.py`."
    )
    heads = ["capability", "workloads", "sequences equal", "events", "peaks compared", "equal"]
    title = "Events predicted for CUDA against PyTorch's own"
    write_table(arguments.out / "events", title, summary, heads, rows)
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())

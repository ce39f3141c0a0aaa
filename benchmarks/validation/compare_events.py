"""Draw workloads, and hold the events predicted for them against those of PyTorch's allocator.

    python -m benchmarks.validation.compare_events --out FOLDER

Writes ``events.md`` and ``events.csv``; exit code 1 if any event or any phase's peak differs.
"""

import sys
from collections.abc import Sequence
from itertools import groupby
from random import Random
from typing import Any

from benchmarks.validation.compare_predictions import GPUS
from benchmarks.validation.dry_run import parser, write_table
from benchmarks.validation.record_events import STEPS, record_on
from harness.allocator import CachingAllocator
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


def main() -> int:
    """Draw, record, compare and write; return the exit code."""
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
        counts = [0, 0, 0, 0]
        for workload, predicted in zip(workloads, recordings, strict=True):
            same, compared, equal = differences(workload, gpu, predicted)
            if not same or compared != equal:
                print("differs:", workload, flush=True)
                all_equal = False
            for place, number in enumerate((len(predicted["events"]), same, compared, equal)):
                counts[place] += number
        events, same_sequences, compared, equal = counts
        cells = (pretended.name.split()[1], len(workloads), same_sequences, events, compared, equal)
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

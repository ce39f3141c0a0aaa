r"""Compare the predicted memory of public models with the CUDA dry run.

    python -m benchmarks.validation.dry_run \
      -m benchmarks.validation.compare_public_models record FOLDER
    python -m benchmarks.validation.compare_public_models compare FOLDER OUT

``record`` trains each model on the pretended GPU (PyTorch's own kernels and allocator) and writes
a JSON file for it; ``compare`` predicts the same runs on the simulated GPU and writes
``models.csv`` and ``models.md``.
"""

import csv
import itertools
import json
import os
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.validation.public_models import names, training
from harness.allocator import CachingAllocator

LIBRARIES = ("torch._dynamo", "torchvision", "transformers")
COUNTERS = ("requested", "allocated", "reserved")


SUMMARY = (
    "Three training steps of public models on torch {version}, capability 8.0, without cuDNN, each "
    "in a process of its own: under the CUDA dry run, where PyTorch's own kernels decide what is "
    "allocated and its allocator where, and on the simulated GPU. The dry run places each segment "
    "above those before, and so does the model here; the range is over five ways of placing them. "
    "Events are compared up to the order among blocks that are freed one after another. Written by "
    "`benchmarks/validation/compare_public_models.py`."
)


def record(folder: Path, chosen: list[str]) -> None:
    """Train each model in a fork of its own; what was recorded already is left alone."""
    for library in LIBRARIES:  # else every fork would load them
        if find_spec(library):
            import_module(library)
    for name in chosen:
        path = folder / f"{name}.json"
        if path.exists():
            continue
        child = os.fork()
        if child == 0:
            path.write_text(json.dumps(_trained(name)))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"not recorded: {name}")
        print(name, flush=True)


def _trained(name: str) -> dict[str, Any]:
    """Train the model on the pretended GPU; return its peaks, and what it allocated and freed."""
    torch.backends.cudnn.enabled = False
    torch.cuda.memory._record_memory_history("all", context=None)
    try:
        training(name)()
    except Exception as error:
        return {"torch": torch.__version__, "error": f"{type(error).__name__}: {error}"[:200]}
    stats = torch.cuda.memory_stats()
    peaks = {counter: stats[f"{counter}_bytes.all.peak"] for counter in COUNTERS}
    snapshot: Any = torch.cuda.memory._snapshot
    history = snapshot()["device_traces"][0]
    return {"torch": torch.__version__, **peaks, "events": numbered(history)}


def numbered(history: Iterable[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return bytes allocated, or minus the bytes freed, and the block's running number."""
    numbers: dict[int, int] = {}
    count = itertools.count(1)
    events = []
    for entry in history:
        size, address = entry["size"], entry["addr"]
        if entry["action"] == "alloc":
            numbers[address] = next(count)
            events.append((size, numbers[address]))
        elif entry["action"] == "free_requested":
            events.append((-size, numbers.pop(address)))
    return events


def compare(folder: Path, out: Path) -> None:
    """Predict what was recorded and write the tables."""
    rows = []
    for name in names():
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        measured = json.loads(path.read_text())
        if "error" not in measured:
            rows.append(_row(name, measured))
            print(rows[-1], flush=True)
            _write(rows, out, measured["torch"])


def _row(name: str, measured: dict[str, Any]) -> list[str]:
    from dataclasses import replace

    from harness.prediction.gpu.catalogue import DEFAULT
    from harness.prediction.module.predict_run import predict_run

    gpu = replace(DEFAULT, workspace_config="")
    started = time.process_time()
    try:
        found = predict_run(run=training(name), gpu=gpu, cudnn=False)
    except Exception as error:
        return [
            name,
            str(measured["requested"]),
            *[""] * 7,
            f"{type(error).__name__}: {error}"[:90],
        ]
    seconds = time.process_time() - started
    events = [(event.size_bytes, event.address) for event in found.trace.events]
    recorded = [(size, block) for size, block in measured["events"]]
    predicted = played(events)
    low, high = found.peaks.reserved_peak_bytes
    in_range = low <= measured["reserved"] <= high
    equal = in_order_of_frees(events) == in_order_of_frees(recorded)
    operators = [event.operator for event in found.trace.events]
    return [
        name,
        str(measured["requested"]),
        str(predicted["requested"]),
        *(_off(predicted[counter], measured[counter]) for counter in COUNTERS),
        str(in_range),
        str(equal),
        f"{seconds:.1f}",
        "" if equal else _reason(events, recorded, operators, measured),
    ]


def played(events: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Return the peaks of the allocator model, which places segments as the dry run does."""
    allocator = CachingAllocator()
    where: dict[int, int] = {}
    for size, block in events:
        if size > 0:
            where[block] = allocator.malloc(size)
        else:
            allocator.free(where.pop(block))
    stats = allocator.stats()
    return {counter: stats[f"{counter}_bytes.all.peak"] for counter in COUNTERS}


def in_order_of_frees(events: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the events with blocks that are freed one after another sorted.

    What is free then does not depend on the order, and autocast's is that of a hash table.
    """
    found: list[tuple[int, int]] = []
    for are_freed, group in itertools.groupby(events, lambda event: event[0] < 0):
        neighbours = list(group)
        found += sorted(neighbours) if are_freed else neighbours
    return found


def _reason(
    events: list[tuple[int, int]],
    recorded: list[tuple[int, int]],
    operators: list[str],
    measured: dict[str, Any],
) -> str:
    """Say from where on the events differ, and whether that is all that differs."""
    pairs = zip(in_order_of_frees(events), in_order_of_frees(recorded), strict=False)
    place = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(events))
    operator = operators[min(place, len(operators) - 1)]
    reason = f"event {place} of {len(recorded)}, {operator}: another size or order"
    if played(recorded) != {counter: measured[counter] for counter in COUNTERS}:
        reason += "; the allocator model differs too"
    return reason


def _off(predicted: int, measured: int) -> str:
    return "0" if predicted == measured else f"{100 * (predicted / measured - 1):+.3f}%"


HEADS = (
    "model, batch, autocast", "requested, dry run", "requested, predicted", "requested off",
    "allocated off", "reserved off", "reserved in range", "events equal", "seconds", "reason",
)  # fmt: skip


def _write(rows: list[list[str]], out: Path, version: str) -> None:
    with (out / "models.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADS, *rows])
    done = [row for row in rows if row[3]]
    exact = [sum(row[place] == "0" for row in done) for place in (3, 4, 5)]
    missed = [row[0] for row in done if row[6] == "False"]
    models = len({row[0].split()[0] for row in rows})
    text = [
        "# Public models: prediction and dry run",
        "",
        SUMMARY.format(version=version.partition("+")[0]),
        "",
        f"- {len(rows)} runs of {models} models, {len(rows) - len(done)} of them unsupported.",
        "- Peaks equal to the byte, of {}: requested {}, allocated {}, reserved {}.".format(
            len(done), *exact
        ),
        f"- Every event equal, in order: {sum(row[7] == 'True' for row in done)} of {len(done)}.",
        f"- Reserved outside the predicted range: {', '.join(missed) or 'none'}.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + " --- |" * len(HEADS),
        *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows),
        "",
    ]
    (out / "models.md").write_text("\n".join(text))


def main() -> int:
    """Record or compare."""
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "record":
        record(folder, sys.argv[3:] or names())
    else:
        compare(folder, Path(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

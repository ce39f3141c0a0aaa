"""Compare the predicted memory of public models with the CUDA dry run.

    run.sh VENV -m tests.validation.compare_public_models record FOLDER [NAME ...]
    python -m tests.validation.compare_public_models compare FOLDER OUT

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

from tests.validation.public_models import names, training

LIBRARIES = ("torch._dynamo", "torchvision", "transformers")
COUNTERS = ("requested", "allocated", "reserved")


UNEXPLAINED = "Requested peak not equal, or reserved outside the range; not explained yet"
SUMMARY = (
    "Three training steps of public models on torch {version}, capability 8.0, without cuDNN: the "
    "peaks under the CUDA dry run, where PyTorch's own kernels decide what is allocated, and on "
    "the simulated GPU of a CPU-only build. Written by "
    "`tests/validation/compare_public_models.py`."
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
        peaks = predict_run(run=training(name), gpu=gpu, cudnn=False).peaks
    except Exception as error:
        return [
            name,
            str(measured["requested"]),
            *[""] * 6,
            f"{type(error).__name__}: {error}"[:90],
        ]
    seconds = time.process_time() - started
    allocated, reserved = peaks.allocated_peak_bytes, peaks.reserved_peak_bytes
    off = [
        _off(peaks.requested_peak_bytes, measured["requested"]),
        _off(_nearest(allocated, measured["allocated"]), measured["allocated"]),
        _off(_nearest(reserved, measured["reserved"]), measured["reserved"]),
    ]
    return [
        name,
        str(measured["requested"]),
        str(peaks.requested_peak_bytes),
        *off,
        str(reserved[0] <= measured["reserved"] <= reserved[1]),
        f"{seconds:.1f}",
        "",
    ]


def _nearest(low_high: tuple[int, int], value: int) -> int:
    return min(max(value, low_high[0]), low_high[1])


def _off(predicted: int, measured: int) -> str:
    return "0" if predicted == measured else f"{100 * (predicted / measured - 1):+.3f}%"


HEADS = (
    "model, batch, autocast", "requested, dry run", "requested, predicted", "requested off",
    "allocated off", "reserved off", "reserved in range", "seconds", "reason",
)  # fmt: skip


def _write(rows: list[list[str]], out: Path, version: str) -> None:
    with (out / "models.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADS, *rows])
    done = [row for row in rows if not row[8]]
    equal = sum(row[3] == "0" for row in done)
    close = sum(all(abs(float(x.strip("+%"))) <= 1 for x in row[4:6]) for row in done)
    missed = [row[0] for row in done if row[3] != "0" or row[6] == "False"]
    text = [
        "# Public models: prediction and dry run",
        "",
        SUMMARY.format(version=version.partition("+")[0]),
        "",
        f"- {len(rows)} runs, {len(rows) - len(done)} of them unsupported.",
        f"- Requested peak equal to the byte: {equal} of {len(done)}.",
        f"- Allocated and reserved peak within 1%: {close} of {len(done)}.",
        f"- {UNEXPLAINED}: {', '.join(missed) or 'none'}.",
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

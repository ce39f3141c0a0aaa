r"""Compare the estimate of public models' training steps with the CUDA dry run.

    python -m benchmarks.validation.dry_run \
      -m benchmarks.validation.compare_public_models record FOLDER
    python -m benchmarks.validation.compare_public_models compare FOLDER OUT

``record`` traces each model's step on the pretended GPU (PyTorch's own kernels and allocator) and
writes a JSON file for it, with which of counter, categories and layers do not add up to the peak;
``compare`` estimates the same steps on meta tensors and writes ``models.csv`` and ``models.md``,
with the sentence that every estimate carries.
"""

import json
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from harness.allocator import CachingAllocator

from benchmarks.validation.dry_run import write_table
from benchmarks.validation.public_models import names, own_step
from harness.dry_runs.left_out_values import leave_values_out
from harness.measurement.step_trace import trace_step
from harness.prediction.estimate.estimate_step import ACCURACY, estimate_step
from harness.prediction.gpu.catalogue import DEFAULT
from harness.schema.errors import HarnessError
from harness.schema.events import Trace

LIBRARIES = ("torch._dynamo", "torchvision", "transformers")
COUNTERS = ("requested", "allocated", "reserved")
WITHIN = 0.01

SUMMARY = (
    "A training step of public models, capability 8.0, each in a process "
    "of its own: traced under the CUDA dry run, where PyTorch's own kernels decide what is "
    "allocated, and estimated on meta tensors. Peaks of the build and the steps, in bytes. "
    "Written by `benchmarks/validation/compare_public_models.py`."
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
    """Trace the model's step on the pretended GPU; return its peaks, and what does not add up."""
    leave_values_out()
    traced = trace_step(own_step(name), "cuda", lambda _: nullcontext())
    cuda, parts = traced.cuda, traced.categories_at_peak
    assert cuda is not None
    assert cuda.first_step is not None
    assert parts is not None
    seen = [cuda, cuda.first_step, *(cuda.phases or {}).values()]
    peaks = {
        counter: max(getattr(one, f"{counter}_peak_bytes") for one in seen) for counter in COUNTERS
    }
    sums = {
        "counter": cuda.requested_peak_bytes,
        "categories": sum(getattr(parts, name) for name in parts.__struct_fields__),
        "layers": sum(layer.peak_bytes for layer in traced.layers),
    }
    peak = traced.peak_live_bytes
    differ = [
        f"{what} {sum_bytes} of {peak}" for what, sum_bytes in sums.items() if sum_bytes != peak
    ]
    return {"torch": torch.__version__, **peaks, "does_not_add_up": differ}


def compare(folder: Path, out: Path) -> None:
    """Estimate what was recorded and write the tables."""
    rows, add_up = [], 0
    for name in names():
        path = folder / f"{name}.json"
        if path.exists():
            measured = json.loads(path.read_text())
            add_up += not measured["does_not_add_up"]
            rows.append(_row(name, measured))
            print(rows[-1], flush=True)
            _write(rows, out, add_up)


def _row(name: str, measured: dict[str, Any]) -> list[str]:
    gpu = replace(DEFAULT, workspace_config="")
    started = time.process_time()
    try:
        report = estimate_step(own_step(name), device="cuda", gpu=gpu)
    except HarnessError as error:
        return [name, str(measured["requested"]), "", "", "", "", "", str(error)[:90]]
    seconds = time.process_time() - started
    assert report.trace is not None
    peaks = _played(report.trace)
    off = [peaks[counter] / measured[counter] - 1 for counter in COUNTERS]
    return [
        name,
        str(measured["requested"]),
        str(peaks["requested"]),
        *(f"{share:+.3%}" if share else "0" for share in off),
        f"{seconds:.1f}",
        "",
    ]


def _played(trace: Trace) -> dict[str, int]:
    """Return the peaks of the allocator model, which places segments as the dry run does."""
    allocator = CachingAllocator()
    where: dict[int, int] = {}
    for event in trace.events:
        if event.size_bytes > 0:
            where[event.address] = allocator.malloc(event.size_bytes)
        else:
            allocator.free(where.pop(event.address))
    stats = allocator.stats()
    return {counter: stats[f"{counter}_bytes.all.peak"] for counter in COUNTERS}


HEADS = (
    "model, batch, autocast", "requested, dry run", "requested, estimate", "requested off",
    "allocated off", "reserved off", "seconds", "not estimated",
)  # fmt: skip


def sentence(rows: list[list[str]]) -> str:
    """Return how far the estimates are off, in the words that each estimate carries."""
    requested, reserved = (
        [float(row[place].rstrip("%")) / 100 for row in rows if row[place]] for place in (3, 5)
    )
    near = sum(abs(share) <= WITHIN for share in requested)
    worst = max(requested, key=abs, default=0.0)
    return (
        f"estimate: requested peak within {WITHIN:.0%} in {near} of {len(rows)} runs of "
        f"{len({row[0].split()[0] for row in rows})} networks, worst {worst:+.1%}; reserved peak "
        f"{min(reserved, default=0.0):+.1%} to {max(reserved, default=0.0):+.1%}"
    )


def _write(rows: list[list[str]], out: Path, add_up: int) -> None:
    done = [row for row in rows if row[3]]
    exact = [sum(row[place] == "0" for row in done) for place in (3, 4, 5)]
    counts = [
        f"- Counter, categories and layers add up to the traced peak in {add_up} of {len(rows)}.",
        f"- {sentence(rows)}.",
        f"- {len(rows) - len(done)} could not be estimated.",
        "- Peaks equal to the byte, of {}: requested {}, allocated {}, reserved {}.".format(
            len(done), *exact
        ),
    ]
    title = "Public models: estimate and dry run"
    write_table(out / "models", title, "\n".join([*counts, "", SUMMARY]), HEADS, rows)
    if sentence(rows) != ACCURACY:
        print(f"estimate_step.ACCURACY should read: {sentence(rows)}")


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

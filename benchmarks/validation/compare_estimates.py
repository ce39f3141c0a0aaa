r"""Compare the estimate of training steps with the CUDA dry run, and make its table of errors.

    python -m benchmarks.validation.dry_run \
      -m benchmarks.validation.compare_estimates record FOLDER
    python -m benchmarks.validation.compare_estimates compare FOLDER OUT

``record`` traces each step on a pretended GPU (PyTorch's own kernels and allocator), and writes a
JSON file, which also names sums that differ from the peak. ``compare`` estimates the same steps on
meta tensors, with a CPU build of PyTorch. A seed halves the networks; one half makes the ranges of
reserved bytes, and the other half is held out. ``accuracy.toml`` has the errors of the second half;
every estimate prints a line of it.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.validation.dry_run import write_table
from benchmarks.validation.public_models import BATCHES, names, own_step
from benchmarks.validation.random_networks import COUNT, random_step
from harness.dry_runs.left_out_values import leave_values_out
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.dry_runs.pretended_gpu import of_any_size
from harness.dry_runs.toolchain import torch_build
from harness.measurement.step_trace import trace_step
from harness.prediction.estimate import allocator_peaks
from harness.prediction.estimate.estimate_step import estimate_step
from harness.prediction.gpu.catalogue import Gpu, find
from harness.prediction.versions import describing, known_version
from harness.schema.errors import HarnessError
from harness.schema.metrics import CudaMetrics
from harness.training.module_step import no_phase
from harness.training.own_step import OwnStep

LIBRARIES = ("torch._dynamo", "torchvision", "transformers")
COUNTERS = ("requested", "allocated", "reserved")
GPUS = ("a100-80gb", "l4", "t4", "h100-80gb")
WITHIN = 0.01
SEED = 50
LEFT_OUT = 0.02
"""Share of the half with the highest ratios, which is left out of a range."""
_MIB = 1 << 20
BOUNDS = (128 * _MIB, 1024 * _MIB, 0)
"""Largest allocated peaks of the classes of sizes; 0 stands for no limit."""

SUMMARY = (
    "Each row is the training of a network in its own process, on one of four pretended GPUs. The"
    " dry run traced this training; PyTorch's own code decided what was allocated. The estimate"
    " used meta tensors and torch {}. Peaks are in bytes, and include the building of the network"
    " and all steps. The networks of the half `made` determine the range of the reserved bytes"
    " (without the highest 2%). The networks of the half `held out` test this range."
    " `benchmarks/validation/compare_estimates.py` writes this page."
)


def all_names() -> list[str]:
    """Return the names of public and of random steps."""
    return [*names(), *(f"random {number}" for number in range(COUNT))]


def network_of(name: str) -> str:
    """Return the network of a step; the network of a random step is its name."""
    return name if name.startswith("random") else name.split()[0]


def gpu_of_step(name: str) -> Gpu:
    """Return the GPU of a step, drawn by its name; small public steps share the first GPU."""
    is_small = name.split()[1] == str(min(BATCHES)) and not name.startswith("random")
    drawn = GPUS[0] if is_small else random.Random(name).choice(GPUS)
    return replace(find(drawn), workspace_config="")


def held_out() -> set[str]:
    """Return the half of the networks of both kinds that is not used for ranges."""
    half: set[str] = set()
    for is_random in (False, True):
        alike = {network_of(one) for one in all_names() if one.startswith("random") == is_random}
        half |= set(random.Random(SEED).sample(sorted(alike), len(alike) // 2))
    return half


def step_of(name: str) -> OwnStep:
    """Return the training step of a name."""
    kind, number, *_ = name.split()
    return random_step(int(number)) if kind == "random" else own_step(name)


def record(folder: Path, chosen: list[str]) -> None:
    """Train each network in a separate fork, except networks that are already recorded."""
    for library in LIBRARIES:  # else every fork would load them
        if find_spec(library):
            import_module(library)
    architectures = torch_build().architectures()
    for name in chosen:
        path = folder / f"{name}.json"
        if path.exists():
            continue
        child = os.fork()
        if child == 0:
            os.environ |= of_any_size(gpu_of_step(name)).variables(architectures)
            limit_memory(ENDLESS_BYTES)
            path.write_text(json.dumps(_trained(name)))
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(f"not recorded: {name}", flush=True)


def _trained(name: str) -> dict[str, Any]:
    """Trace the step on the pretended GPU; return its peaks, and the sums that differ."""
    leave_values_out()
    traced = trace_step(step_of(name), "cuda", no_phase)
    cuda, parts = traced.cuda, traced.categories_at_peak
    assert cuda is not None
    assert parts is not None
    sums = {
        "counter": cuda.requested_peak_bytes,
        "categories": sum(getattr(parts, name) for name in parts.__struct_fields__),
        "layers": sum(layer.peak_bytes for layer in traced.layers),
    }
    peak = traced.peak_live_bytes
    differ = [
        f"{what} {sum_bytes} of {peak}" for what, sum_bytes in sums.items() if sum_bytes != peak
    ]
    return {"torch": torch.__version__, **_peaks(cuda, COUNTERS), "does_not_add_up": differ}


def _peaks(cuda: CudaMetrics, counters: tuple[str, ...]) -> dict[str, int]:
    """Return the highest peaks of the build and the steps."""
    seen = [cuda, cuda.first_step, *(cuda.phases or {}).values()]
    return {
        counter: max(getattr(one, f"{counter}_peak_bytes") or 0 for one in seen if one is not None)
        for counter in counters
    }


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The peaks of one step; estimated peaks are None without an estimate."""

    name: str
    truth: dict[str, int]
    requested: int = 0
    allocated: int = 0
    seconds: float = 0.0
    refused: str = ""

    @property
    def is_held_out(self) -> bool:
        """Return whether the step is in the half that is not used for ranges."""
        return network_of(self.name) in held_out()

    def error(self, counter: str) -> float:
        """Return the relative error of the estimate."""
        return float(getattr(self, counter) / self.truth[counter] - 1)

    @property
    def reserved_ratio(self) -> float:
        """Reserved bytes of the dry run as a multiple of the estimated allocated bytes."""
        return self.truth["reserved"] / self.allocated


def compare(folder: Path, out: Path) -> None:
    """Estimate the recorded steps and write the tables."""
    compared = []
    for name in all_names():
        path = folder / f"{name}.json"
        if path.exists():
            compared.append(_compared(name, json.loads(path.read_text())))
            print(compared[-1], flush=True)
    done = [one for one in compared if not one.refused]
    classes = [*_classes(done)]
    _write_accuracy(classes)
    _write(compared, classes, out)


def _compared(name: str, truth: dict[str, Any]) -> Compared:
    started = time.process_time()
    try:
        with describing(known_version(truth["torch"].partition("+")[0])):
            report = estimate_step(step_of(name), device="cuda", gpu=gpu_of_step(name))
    except HarnessError as error:
        return Compared(name=name, truth=truth, refused=str(error)[:90])
    assert report.cuda is not None
    peaks = _peaks(report.cuda, ("requested", "allocated"))
    return Compared(
        name=name,
        truth=truth,
        requested=peaks["requested"],
        allocated=peaks["allocated"],
        seconds=time.process_time() - started,
    )


def _classes(done: list[Compared]) -> Iterator[allocator_peaks.SizeClass]:
    """Yield the range from the first half, and the errors of the second half."""
    least = 0
    for bound in BOUNDS:
        here = [one for one in done if least < one.allocated <= (bound or 1 << 60)]
        least = bound
        made = sorted(one.reserved_ratio for one in here if not one.is_held_out)
        made = made[: len(made) - int(len(made) * LEFT_OUT)]
        judged = [one for one in here if one.is_held_out]
        low, high = min(made) - 0.005, max(made) + 0.005
        in_range = [low <= one.reserved_ratio <= high for one in judged]
        yield allocator_peaks.SizeClass(
            below_bytes=bound,
            reserved_least=round(low, 3),
            reserved_most=round(high, 3),
            steps=len(judged),
            within_requested=_share(judged, lambda one: abs(one.error("requested")) <= WITHIN),
            within_allocated=_share(judged, lambda one: abs(one.error("allocated")) <= WITHIN),
            requested=_span([one.error("requested") for one in judged]),
            allocated=_span([one.error("allocated") for one in judged]),
            in_range=round(sum(in_range) / len(in_range), 3),
        )


def _share(steps: list[Compared], holds: Callable[[Compared], bool]) -> float:
    return round(sum(map(holds, steps)) / len(steps), 3)


def _span(errors: list[float]) -> tuple[float, float]:
    return round(min(errors), 4), round(max(errors), 4)


def _write_accuracy(classes: list[allocator_peaks.SizeClass]) -> None:
    lines = [
        "# Written by benchmarks/validation/compare_estimates.py.",
        f'made = "torch {torch.__version__}"',
    ]
    for one in classes:
        lines += ["", "[[classes]]"]
        for field in one.__struct_fields__:
            value = getattr(one, field)
            lines.append(f"{field} = {list(value) if isinstance(value, tuple) else value}")
    place = Path(allocator_peaks.__file__).with_name("accuracy.toml")
    place.write_text("\n".join([*lines, ""]))


HEADS = (
    "step: network, batch, autocast", "gpu", "half", "requested, dry run", "requested, estimate",
    "requested off", "allocated off", "reserved / allocated", "seconds", "not estimated",
)  # fmt: skip


def _write(compared: list[Compared], classes: list[allocator_peaks.SizeClass], out: Path) -> None:
    rows = []
    for one in compared:
        half = "held out" if one.is_held_out else "made"
        known = [""] * 5
        if not one.refused:
            off = (f"{one.error(counter):+.3%}" for counter in ("requested", "allocated"))
            known = [str(one.requested), *off, f"{one.reserved_ratio:.3f}", f"{one.seconds:.1f}"]
        gpu, truth = gpu_of_step(one.name).name, str(one.truth["requested"])
        rows.append([one.name, gpu, half, truth, *known, one.refused])
    add_up = sum(not one.truth["does_not_add_up"] for one in compared)
    refused = sum(bool(one.refused) for one in compared)
    counts = [
        f"- In {add_up} of {len(rows)} steps, categories and layers sum to the allocator's peak.",
        f"- The estimate refused {refused} steps.",
        *(f"- {one}." for one in classes),
    ]
    summary = SUMMARY.format(torch.__version__)
    title = "Networks: estimate and dry run"
    write_table(out / "models", title, "\n".join([*counts, "", summary]), HEADS, rows)


def main() -> int:
    """Record or compare."""
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if sys.argv[1] == "record":
        record(folder, sys.argv[3:] or all_names())
    else:
        compare(folder, Path(sys.argv[3]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compares predictions of networks on CUDA with other estimators, in seconds and in error.

``benchmarks/prediction.py --networks`` runs this file. The true value comes from PyTorch's own
allocator under the dry run, which needs a CUDA build of PyTorch, but no GPU. The other estimators
are MemTracker on fake tensors (on the CPU, because fake CUDA tensors need a driver), torch-kitsune
and torch-preflight. An estimator that is not installed is left out, with a line.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_small import Gpt2Small, next_token_loss, tokens

HERE = Path(__file__).parent
GPU = "a100-80gb"
GPT2 = f"{HERE}/gpt2_small.py"
RESNET50_ASKED = "torchvision.models:resnet50 --input 3x224x224 --batch 32"
GPT2_ASKED = (
    f"{GPT2}:Gpt2Small --inputs {GPT2}:tokens --loss {GPT2}:next_token_loss --batch 4 "
    "--optimizer adamw"
)
COMMANDS = {
    "resnet50, largest batch for one GPU": (6, f"{RESNET50_ASKED} --gpu l4"),
    "resnet50, every GPU": (8, f"{RESNET50_ASKED} --gpu all"),
    "GPT-2 small, 4 x 1,024": (12, f"{GPT2_ASKED} --gpu l4"),
    "MLP": (0.25, "--device cuda"),
}
"""Command lines, and the seconds within which each should answer."""


def images(batch: int) -> tuple[Any, Any]:
    import torch

    return torch.zeros(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.int64)


def resnet50() -> Any:
    from torchvision.models import resnet50

    return resnet50()


def vit_b_16() -> Any:
    from torchvision.models import vit_b_16

    return vit_b_16()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and its step."""

    build: Callable[[], Any]
    inputs: Callable[[int], tuple[Any, Any]]
    loss: Any
    batch: int
    optimizer: str
    shape: tuple[int, ...]
    preflight: tuple[str, ...]
    """The network and its input as torch-preflight names them."""

    def asked(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "loss": self.loss, "optimizer": self.optimizer}


IMAGE = {
    "inputs": images, "loss": "cross-entropy", "optimizer": "adamw", "shape": (3, 224, 224)
}  # fmt: skip
CASES = {
    "resnet50, batch 32": Case(
        build=resnet50, batch=32, **IMAGE,
        preflight=("--model", "torchvision.models:resnet50", "--image-size", "224"),
    ),
    "vit_b_16, batch 16": Case(
        build=vit_b_16, batch=16, **IMAGE,
        preflight=("--model", "torchvision.models:vit_b_16", "--image-size", "224"),
    ),
    "GPT-2 small, 4 x 1,024": Case(
        build=Gpt2Small, inputs=tokens, loss=next_token_loss, batch=4, optimizer="adamw",
        shape=(1024,),
        preflight=("--model", "gpt2_small:Gpt2Small", "--seq-len", "1024", "--flash"),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Peaks of PyTorch's allocator; an estimator returns only one of the two."""

    allocated: int | None = None
    reserved: int | None = None


def exact(case: Case) -> Peaks:
    """Return the peaks of a steady step under the dry run; its process imports this module."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    return _predicted(case, "dry-run")


def ours(case: Case) -> Peaks:
    return _predicted(case, "estimate")


def _predicted(case: Case, method: str) -> Peaks:
    import harness

    result = harness.predict(case.build, case.batch, gpu=GPU, method=method, **case.asked())
    cuda = result.cuda
    return Peaks(allocated=cuda.allocated_peak_bytes, reserved=cuda.reserved_peak_bytes)


def mem_tracker(case: Case) -> Peaks:
    """Return the peak of the second step on fake tensors."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    from harness.training.module_step import loss_of

    with FakeTensorMode():
        model = case.build()
        x, y = case.inputs(case.batch)
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
        tracker = MemTracker()
        tracker.track_external(model, optimizer, x, y)

        def step() -> None:
            optimizer.zero_grad()
            loss_of(case.loss, model(x), y).backward()
            optimizer.step()

        with tracker:
            step()
            tracker.reset_mod_stats()
            step()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    return Peaks(allocated=int(peak))


def kitsune(case: Case) -> Peaks:
    """Return the total of torch-kitsune, 15% of which are for fragmentation."""
    from kitsune.predict import predict_memory

    result = predict_memory(case.build(), case.shape, batch_size=case.batch, optimizer="adamw")
    return Peaks(reserved=int(result.total_bytes))


def preflight(case: Case) -> Peaks:
    """Return torch-preflight's peak without the CUDA context, timed with Python's start."""
    command = [
        sys.executable, "-m", "torch_preflight", "estimate", *case.preflight,
        "--batch-size", str(case.batch), "--optimizer", "adamw", "--dtype", "fp32",
        "--gpu", GPU, "--format", "json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, check=False)
    report = json.loads(done.stdout)
    return Peaks(reserved=report["total_bytes"] - report["breakdown"]["CUDA_context"])


ESTIMATORS = {
    "harness, estimate": ours,
    "MemTracker on fake tensors": mem_tracker,
    "torch-kitsune": kitsune,
    "torch-preflight": preflight,
}


def print_commands() -> None:
    """Print the wall seconds and the processor seconds of each command."""
    print(f"{'harness predict':<40} {'seconds':>8} {'of the CPU':>10} {'wanted':>7}")
    for name, (wanted, arguments) in COMMANDS.items():
        command = [sys.executable, "-m", "harness", "predict", *arguments.split()]
        before, start = os.times(), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds, after = time.perf_counter() - start, os.times()
        spent = after.children_user + after.children_system
        spent -= before.children_user + before.children_system
        limit = f"< {wanted}"
        print(f"{name:<40} {seconds:>8.2f} {spent:>10.2f} {limit:>7}", flush=True)


def print_errors() -> None:
    """Print each estimator's peaks next to the true peaks."""
    for name, case in CASES.items():
        truth, seconds = _timed(exact, case)
        print(f"\n{name}, AdamW, {GPU}\n  {'':<28} {'allocated':>16} {'off':>9} "
              f"{'reserved':>16} {'off':>9} {'seconds':>8}")  # fmt: skip
        _print_row("dry run (the truth)", truth, truth, seconds)
        for label, estimate in ESTIMATORS.items():
            try:
                result, seconds = _timed(estimate, case)
            except Exception as error:
                print(f"  {label:<28} no answer: {type(error).__name__}: {str(error)[:70]}")
                continue
            _print_row(label, result, truth, seconds)


def _timed(estimate: Callable[[Case], Peaks], case: Case) -> tuple[Peaks, float]:
    start = time.perf_counter()
    return estimate(case), time.perf_counter() - start


def _print_row(label: str, result: Peaks, truth: Peaks, seconds: float) -> None:
    cells = []
    for size, exact_size in (
        (result.allocated, truth.allocated),
        (result.reserved, truth.reserved),
    ):
        off = "" if size is None else "0" if size == exact_size else f"{size / exact_size - 1:+.2%}"
        cells.append(f"{'' if size is None else f'{size:,}':>16} {off:>9}")
    print(f"  {label:<28} {' '.join(cells)} {seconds:>8.1f}", flush=True)


if __name__ == "__main__":
    print_commands()
    print_errors()

"""The simulated GPU against the CUDA dry run: the requested peak of every part, to the byte.

``benchmarks/validation/record_kernel_peaks.py`` recorded the peaks in ``kernel_peaks*.json``,
where PyTorch's own CUDA kernels decide what is allocated.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.validation.kernel_cases import ATTENTION, CASES, Case
from harness.prediction.gpu.catalogue import DEFAULT, Gpu
from harness.prediction.gpu.workspaces import are_kept
from harness.prediction.module.event_ledger import Ledger
from harness.prediction.module.gpu_autocast import simulated_autocast
from harness.prediction.module.gpu_functions import gpu_functions
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.predict_run import predict_run
from harness.prediction.module.simulated_gpu import simulated_gpu
from harness.prediction.versions import TorchVersion, described_version
from harness.schema.events import Trace

HERE = Path(__file__).parent
FILES = {
    TorchVersion(2, 13): HERE / "kernel_peaks.json",
    TorchVersion(2, 14): HERE / "kernel_peaks_2.14.json",
    TorchVersion(2, 15): HERE / "kernel_peaks_2.15.json",
}
"""Recordings of each version whose kernels were compared."""
RECORDED = json.loads(FILES.get(described_version(), FILES[TorchVersion(2, 13)]).read_text())
GPUS = [key for key in RECORDED if key != "torch"]
ALL = {**CASES, **ATTENTION}
_SMALL_MASKS = {
    f"attention {kind}, width {width}, mask": [0, 0, -786_560]
    for kind in ("float16", "bfloat16")
    for width in (104, 128)
}
NOT_FOLLOWED: dict[TorchVersion, dict[str, dict[str, list[int]]]] = {
    TorchVersion(2, 13): {},
    TorchVersion(2, 14): {
        "8.9, 58": _SMALL_MASKS,
        "7.5, 40": {
            "attention float16, grouped heads": [0, 13_646_900, 21_825_776],
            "autocast bfloat16, encoder layer": [
                0,
                -313_600,
                -313_600,
                0,
                0,
                -313_600,
                -313_600,
                0,
            ],
        },
    },
    TorchVersion(2, 15): {
        "8.9, 58": _SMALL_MASKS,
        "7.5, 40": {
            "attention bfloat16, dropout": [0, -640_000, 0],
            "attention float16, grouped heads": [0, 13_094_896, 11_565_296],
        },
    },
}
"""Known differences from the recording, part by part: choices of attention's kernels since 2.14."""


def simulated(case: Case, gpu: Gpu) -> list[int]:
    """Return the peak of each part of ``case`` on the simulated ``gpu``."""
    scratch = KernelScratch(gpu, cudnn=False)
    ledger = Ledger(scratch)
    ends: list[int] = []
    with simulated_gpu(ledger, gpu, gpu_functions(ledger, scratch)), simulated_autocast():
        case(lambda _: ends.append(len(ledger.trace().events)))
    live = Trace(ledger.trace().events).live_bytes
    starts = [0, *ends[:-1]]
    return [
        max(live[max(start - 1, 0) : end], default=0)
        for start, end in zip(starts, ends, strict=True)
    ]


@pytest.mark.exact
@pytest.mark.parametrize("key", GPUS)
def test_every_part_allocates_what_cuda_allocates(key: str) -> None:
    if described_version() not in FILES:
        pytest.skip(f"torch {described_version()} was not compared kernel by kernel")
    capability, _, multiprocessors = key.partition(", ")
    major, minor = (int(part) for part in capability.split("."))
    gpu = replace(
        DEFAULT,
        capability=(major, minor),
        multiprocessors=int(multiprocessors),
        workspace_config="",
    )
    wrong = {}
    for name, peaks in RECORDED[key].items():
        found = simulated(ALL[name], gpu)
        if found != peaks:
            wrong[name] = [a - b for a, b in zip(found, peaks, strict=True)]
    assert wrong == NOT_FOLLOWED[described_version()].get(key, {})


def rounded(size: int) -> int:
    return -(-size // 512) * 512


BATCH = 8


@pytest.mark.skipif(
    not are_kept(),
    reason="published for torch that keeps cuBLAS workspaces",
)
@pytest.mark.parametrize(
    ("rows", "width"),
    [*itertools.product((256, 512, 1024, 2048, 4096, 8192, 16384), (16, 32, 64, 128))],
)
def test_attention_needs_what_was_published(rows: int, width: int) -> None:
    """Published measurements of two GPUs (batch 8, float32), as a formula that they all follow."""

    def run() -> None:
        shape = (BATCH, rows, width)
        query, key, value = (torch.zeros(shape, device="cuda", requires_grad=True) for _ in "qkv")
        for _ in range(2):
            for tensor in (query, key, value):
                tensor.grad = None
            scores = query @ key.transpose(-2, -1) / width**0.5
            output: Tensor = torch.softmax(scores, dim=-1) @ value
            del scores
            output.sum().backward()  # type: ignore[no-untyped-call]
            del output

    trace = predict_run(run=run, gpu="a100-80gb").trace
    before, peak = _around_backward(trace.events)
    workspace = 8_519_680
    scores, vector = rounded(4 * BATCH * rows**2), rounded(4 * BATCH * rows * width)
    assert before == 2 * workspace + scores + 4 * vector + 512
    assert peak == before + 3 * scores + vector + 512


def _around_backward(events: Sequence[object]) -> tuple[int, int]:
    """Return the rounded bytes when the last backward pass begins, and its peak."""
    live = before = peak = 0
    phase = ""
    for event in Trace(events).events:  # type: ignore[arg-type]
        if event.phase == "backward" and phase != "backward":
            before, peak = live - 512, live  # autograd's first gradient is there already
        size = rounded(abs(event.size_bytes))
        live += size if event.size_bytes > 0 else -size
        if event.phase == "backward":
            peak = max(peak, live)
        phase = event.phase
    return before, peak

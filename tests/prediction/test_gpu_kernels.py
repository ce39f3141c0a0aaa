"""The simulated GPU against the CUDA dry run: the requested peak of every part, to the byte.

The peaks in ``kernel_peaks.json`` were recorded by ``tests/validation/record_kernel_peaks.py``,
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

from harness.prediction.gpu.catalogue import DEFAULT, Gpu
from harness.prediction.module.event_ledger import Ledger
from harness.prediction.module.gpu_autocast import simulated_autocast
from harness.prediction.module.gpu_functions import gpu_functions
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.predict_run import predict_run
from harness.prediction.module.simulated_gpu import simulated_gpu
from harness.prediction.versions import TorchVersion, described_version
from harness.schema.events import Trace
from tests.validation.kernel_cases import ATTENTION, CASES, Case

RECORDED = json.loads(Path(__file__).with_name("kernel_peaks.json").read_text())
GPUS = [key for key in RECORDED if key != "torch"]
ALL = {**CASES, **ATTENTION}
COPY_OF_GRADIENT = 64 * 8 * 64 * 4 * 2
"""Since 2.15 the gradient of an activation in place, on a view, is not copied (twice): the peak of
the backward pass is lower by that. The dry run with torch 2.15 shows the same."""
UNLIKE_RECORDED: dict[TorchVersion, dict[str, list[int]]] = {
    TorchVersion(2, 13): {},
    TorchVersion(2, 15): {
        "activation relu in place": [-COPY_OF_GRADIENT * (part in (2, 6)) for part in range(8)]
    },
}
"""Bytes by which each part differs from the recording, which is one of torch 2.13."""


def simulated(case: Case, gpu: Gpu) -> list[int]:
    """Return the peak of each part of ``case`` on the simulated ``gpu``."""
    scratch = KernelScratch(gpu, cudnn=False)
    ledger = Ledger(scratch)
    ledger.calibrate()
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
    if described_version() not in UNLIKE_RECORDED:
        pytest.skip(f"torch {described_version()} was not compared with the recording of 2.13")
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
    unlike = UNLIKE_RECORDED[described_version()]
    assert wrong == {name: parts for name, parts in unlike.items() if name in RECORDED[key]}


def rounded(size: int) -> int:
    return -(-size // 512) * 512


BATCH = 8


@pytest.mark.parametrize(
    ("rows", "width"),
    [*itertools.product((256, 1024, 4096, 8192, 16384), (16, 32, 64, 128))],
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

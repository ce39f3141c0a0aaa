"""The simulated GPU against the CUDA dry run: the order of every block that a kernel allocates.

``benchmarks/validation/record_kernel_events.py`` recorded ``kernel_events.json``, where PyTorch's
own CUDA kernels decide what is allocated. The order decides what the allocator reserves.
"""

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.validation.kernel_cases import ATTENTION, CASES, Case
from harness.prediction.gpu.catalogue import DEFAULT
from harness.prediction.gpu.workspaces import LT_WORKSPACE_BYTES, workspace_bytes
from harness.prediction.module.event_ledger import Ledger
from harness.prediction.module.gpu_autocast import simulated_autocast
from harness.prediction.module.gpu_functions import gpu_functions
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.simulated_gpu import simulated_gpu
from harness.prediction.versions import described_version

RECORDED = json.loads((Path(__file__).parent / "kernel_events.json").read_text())
GPU = replace(DEFAULT, workspace_config="")
WORKSPACES = {LT_WORKSPACE_BYTES, workspace_bytes(GPU.capability, "")}
NOT_FOLLOWED = {
    "2.14": {"convolution, transposed", "optimizer ASGD", "optimizer Rprop"},
    "2.15": {"convolution, transposed"},
}
"""Where the order differs: the copy of a gradient, and two optimizers' numbers."""


def simulated(case: Case) -> list[int]:
    """Return the sizes of the events of ``case`` on the simulated GPU."""
    scratch = KernelScratch(GPU, cudnn=False)
    ledger = Ledger(scratch)
    with simulated_gpu(ledger, GPU, gpu_functions(ledger, scratch)), simulated_autocast():
        case(lambda _: None)
        ledger.close()
    return [event.size_bytes for event in ledger.trace().events]


def comparable(sizes: Iterable[int]) -> list[int]:
    """Leave out workspaces that pass by, one for each example; sort neighbours that are freed."""
    kept: list[int] = []
    for size in sizes:
        if -size in WORKSPACES and kept and kept[-1] == -size:
            kept.pop()
        else:
            kept.append(size)
    found: list[int] = []
    for are_freed, group in itertools.groupby(kept, lambda size: size < 0):
        neighbours = list(group)
        found += sorted(neighbours) if are_freed else neighbours
    return found


@pytest.mark.exact
def test_kernels_allocate_in_the_order_of_cuda() -> None:
    version = str(described_version())
    if version not in RECORDED:
        pytest.skip(f"torch {version} was not compared kernel by kernel")
    wrong = {
        name
        for name, case in {**CASES, **ATTENTION}.items()
        if comparable(simulated(case)) != comparable(RECORDED[version][name])
    }
    assert wrong == NOT_FOLLOWED[version]

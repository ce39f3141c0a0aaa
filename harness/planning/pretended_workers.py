"""Starts worker processes that see a pretended GPU in place of a real GPU.

For a workload, environment variables describe the GPU. For a network, the message to the worker
describes the GPU.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from harness.dry_runs import toolchain
from harness.dry_runs.build import build
from harness.dry_runs.pretended_environment import RECORDER, SEEN, pretending
from harness.dry_runs.pretended_gpu import (
    PretendedGpu,
    of_any_size,
    pretended_gpu,
    refuse_unfollowed,
)
from harness.dry_runs.step_launcher import LAUNCHER
from harness.dry_runs.toolchain import DryRunUnavailableError, TorchBuild, torch_build
from harness.planning.step_question import Count, TraceStep
from harness.prediction.gpu.catalogue import Gpu
from harness.processes.environment import has_gpu, pretended_device
from harness.processes.launch import OnPhase
from harness.processes.messages import Call, Ended
from harness.schema.errors import UnsupportedError

_ON_GPU: Final[Mapping[str, str]] = {
    TraceStep.answered_by: "harness.planning.answer_pretended:traced",
    Count.answered_by: "harness.planning.answer_pretended:counted",
}
"""Maps a worker's function for a real device to the function for a pretended GPU."""

COMPUTE_IN_WORKER = Path(toolchain.__file__).with_name("compute_in_worker.py")
"""File that a worker executes when it imports PyTorch."""


@contextmanager
def gpu_or_dry_run(device: str, gpu: Gpu | str | None = None) -> Iterator[str | None]:
    """Let workers see ``gpu``; if ``gpu`` is None and no real GPU exists, pretend a default GPU."""
    if device != "cuda" or pretended_device() or (gpu is None and has_gpu()):
        yield pretended_device() if device == "cuda" else None
        return
    try:
        torch = torch_build()
        stub = build(torch)
    except DryRunUnavailableError as error:
        why = f"device: 'cuda': this machine has no GPU, and a dry run is not possible: {error}"
        raise DryRunUnavailableError(why) from error
    refuse_unfollowed(os.environ)
    with pretended(pretended_gpu(gpu), torch, stub):
        yield pretended_device()


@contextmanager
def pretended(gpu: PretendedGpu, torch: TorchBuild, stub: Path) -> Iterator[None]:
    """Let each process that is started inside the ``with`` block see a pretended GPU."""
    begins = {RECORDER: str(COMPUTE_IN_WORKER)}
    variables = pretending(gpu, torch, stub) | SEEN | begins
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


def ended_on_gpu(
    job: Call, settings: str, deadline_seconds: float, progress: OnPhase | None
) -> Ended[dict[str, Any]]:
    """Start a worker process that sees a pretended GPU, and return its result or its failure."""
    refuse_unfollowed(os.environ, settings)
    function = _ON_GPU.get(job.function, job.function)
    job = replace(job, function=function, malloc="system")
    return LAUNCHER.launch(job, deadline_seconds, progress)


def checked(gpu: Gpu) -> Gpu:
    """Check that ``gpu`` can be pretended; return a copy with the cuBLAS workspace setting."""
    torch = torch_build()
    oldest, capability = min(torch.architectures(), default=0), gpu.capability
    if capability[0] * 10 + capability[1] < oldest:
        has = f"torch {torch.version} has kernels for capability {oldest / 10:.1f} and newer"
        raise UnsupportedError(f"{gpu.name} has capability {capability[0]}.{capability[1]}; {has}")
    of_any_size(gpu)
    return gpu.in_environment()

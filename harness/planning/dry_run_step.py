"""A network's step under the dry run: the exact way of ``harness.predict``.

A CUDA build of PyTorch runs the step on a pretended GPU in a process of its own, so PyTorch's own
kernels decide what is allocated. The GPU is given more memory than any has, and then, only where
that leaves the verdict open, its own.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from harness.dry_run.build import build as build_stub
from harness.dry_run.dry_run_report import DryRunReport
from harness.dry_run.pretended_gpu import pretended_gpu
from harness.dry_run.run import dry_run
from harness.dry_run.toolchain import DryRunUnavailableError, torch_build
from harness.prediction.gpu import context_overhead
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.simulation import MOST_STEPS
from harness.prediction.module.asked_step import AskedStep
from harness.prediction.module.module_prediction import UnsupportedModuleError
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.prediction import Fit, GpuFit
from harness.training.module_step import run_step

ENDLESS_BYTES = 1 << 46
COUNTERS = ("requested", "allocated", "active", "reserved")


@dataclass(frozen=True, kw_only=True)
class DryStep:
    """What the dry run found: peaks, and the verdict where a GPU of known size was named."""

    cuda: CudaMetrics
    card: GpuFit | None


def why_not_here(step: dict[str, Any]) -> str | None:
    """Return why the dry run cannot predict the step on this machine; None where it can."""
    try:
        build_stub(torch_build())
    except DryRunUnavailableError as error:
        return str(error)
    try:
        pickle.dumps(step)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return f"the step cannot be sent to another process: {error}"
    return None


def predict_step(
    step: dict[str, Any], *, gpu: Gpu, settings: str, cudnn: bool, is_named: bool
) -> DryStep:
    """Return the peaks of the step, run by PyTorch itself on a pretended GPU.

    Args:
        step: arguments of ``AskedStep``.
        gpu: the GPU to pretend.
        settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's, which asks for no workspace here.
        is_named: whether the user asked about the GPU, and so wants a verdict.

    Raises:
        UnsupportedModuleError: the step does not run; the message has PyTorch's error.

    """
    report = _run(step, gpu, settings, cudnn, total_bytes=ENDLESS_BYTES)
    cuda = _metrics(report)
    card = None
    if is_named and gpu.total_bytes is not None:
        card = _fit_on_gpu(step, gpu, settings, cudnn, cuda)
    return DryStep(cuda=cuda, card=card)


def _run(
    step: dict[str, Any],
    gpu: Gpu,
    settings: str,
    cudnn: bool,
    *,
    total_bytes: int,
    outside_bytes: int = 0,
) -> DryRunReport:
    conf = {"PYTORCH_ALLOC_CONF": settings, "PYTORCH_CUDA_ALLOC_CONF": settings} if settings else {}
    report = dry_run(
        run_counted,
        step,
        cudnn=cudnn,
        gpu=pretended_gpu(gpu, memory_bytes=total_bytes, outside_bytes=outside_bytes or 1),
        environment=conf,
        quiet=True,
    )
    if report.outcome not in ("ok", "oom"):
        raise UnsupportedModuleError(f"unsupported: the dry run ended: {report.evidence}")
    return report


def _metrics(report: DryRunReport) -> CudaMetrics:
    if report.outcome != "ok" or not isinstance(report.returned, list):
        raise UnsupportedModuleError(f"unsupported: the dry run ended: {report.evidence}")
    build, *steps = report.returned
    last = steps[-1]
    phases = {name: CudaPeaks(**peaks) for name, peaks in {**build, **last}.items()}
    return CudaMetrics(
        **_highest(last),
        first_step=CudaPeaks(**_highest(steps[0])),
        phases=phases,
        steady_after=len(steps) - 1,
    )


def _highest(phases: dict[str, dict[str, int]]) -> dict[str, int]:
    names = [f"{name}_peak_bytes" for name in COUNTERS]
    return {name: max(peaks[name] for peaks in phases.values()) for name in names}


def _fit_on_gpu(
    step: dict[str, Any], gpu: Gpu, settings: str, cudnn: bool, cuda: CudaMetrics
) -> GpuFit:
    total = gpu.total_bytes or 0
    least, most = context_overhead.LEAST_BYTES, context_overhead.MOST_BYTES
    allocated, reserved = cuda.allocated_peak_bytes or 0, cuda.reserved_peak_bytes or 0

    def completes(outside: int) -> bool:
        found = _run(step, gpu, settings, cudnn, total_bytes=total, outside_bytes=outside)
        return found.outcome == "ok"

    verdict: Fit = "fits"
    if reserved + most > total:
        if allocated + least > total:
            verdict = "does not fit"
        elif not completes(most):
            verdict = "close call" if completes(least) else "does not fit"
    return GpuFit(
        gpu=gpu.name,
        capability=".".join(map(str, gpu.capability)),
        total_bytes=total,
        outside_bytes=(least, most),
        allocator_settings=settings,
        allocated_peak_bytes=(allocated, allocated),
        reserved_peak_bytes=(reserved, reserved),
        verdict=verdict,
    )


def run_counted(step: dict[str, Any], cudnn: bool) -> list[dict[str, dict[str, int]]]:
    """Run the build and steps until their peaks are steady; return each one's peaks by phase.

    This runs in the child process, on the pretended GPU.
    """
    torch.backends.cudnn.enabled = cudnn
    asked = AskedStep(**step)
    phases: dict[str, dict[str, int]] = {}

    @contextmanager
    def counted(phase: str) -> Iterator[None]:
        torch.cuda.reset_peak_memory_stats()
        yield
        stats = torch.cuda.memory_stats()
        found = {f"{name}_peak_bytes": stats[f"{name}_bytes.all.peak"] for name in COUNTERS}
        before = phases.get(phase, found)
        phases[phase] = {name: max(size, before[name]) for name, size in found.items()}

    with counted("build"):
        model = asked.network("cuda")
        made = asked.step(model, "cuda")
    done = [dict(phases)]
    before, now = -1, 0
    while now > before and len(done) <= MOST_STEPS:
        phases.clear()
        run_step(made, counted)
        done.append(dict(phases))
        before, now = now, _highest(phases)["reserved_peak_bytes"]
    phases.clear()
    run_step(made, counted)
    return [*done, dict(phases)]

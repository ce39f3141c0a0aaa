"""A network's step under the dry run: the exact way of ``harness.predict``.

A CUDA build of PyTorch runs the step on a pretended GPU in a process of its own, so PyTorch's own
kernels decide what is allocated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from harness.dry_run.dry_run_report import DryRunReport
from harness.planning.pretended_call import PretendedCall
from harness.prediction.gpu import context_overhead
from harness.prediction.gpu.simulation import MOST_STEPS
from harness.prediction.module.asked_step import AskedStep
from harness.prediction.module.module_prediction import UnsupportedModuleError
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.prediction import GpuFit
from harness.training.module_step import run_step

COUNTERS = ("requested", "allocated", "active", "reserved")


@dataclass(frozen=True, kw_only=True)
class DryStep:
    """What the dry run found: peaks, and the verdict where a GPU of known size was named."""

    cuda: CudaMetrics
    card: GpuFit | None


def predict_step(call: PretendedCall, *, is_named: bool) -> DryStep:
    """Return the peaks of the step, run by PyTorch itself on a pretended GPU.

    Args:
        call: of ``run_counted``.
        is_named: whether the user asked about the GPU, and so wants a verdict.

    Raises:
        UnsupportedModuleError: the step does not run; the message has PyTorch's error.

    """
    cuda = _metrics(call.run())
    return DryStep(cuda=cuda, card=_fit_on_gpu(call, cuda) if is_named else None)


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


def _fit_on_gpu(call: PretendedCall, cuda: CudaMetrics) -> GpuFit | None:
    allocated, reserved = cuda.allocated_peak_bytes or 0, cuda.reserved_peak_bytes or 0
    verdict = call.verdict(allocated, reserved)
    if verdict is None:
        return None
    return GpuFit(
        gpu=call.gpu.name,
        capability=".".join(map(str, call.gpu.capability)),
        total_bytes=call.gpu.total_bytes or 0,
        outside_bytes=(context_overhead.LEAST_BYTES, context_overhead.MOST_BYTES),
        allocator_settings=call.settings,
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

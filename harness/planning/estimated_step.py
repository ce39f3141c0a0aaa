"""The estimate of a step on meta tensors as a report, where nothing can be run."""

from functools import cache
from threading import Lock

import torch
from msgspec.structs import replace

from harness.dry_run.toolchain import torch_version
from harness.planning.changed_step import changed_step, subject_of
from harness.planning.plan_result import Plan
from harness.planning.plan_search import PlanSearch, Progress
from harness.planning.step_changes import StepChange
from harness.prediction.estimate.estimate_step import estimate_step
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.largest_value import largest_value, line_meets
from harness.schema.argument_checks import ArgumentError
from harness.schema.errors import StepError
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.verdict import FITS
from harness.training.requested_step import requested_step

HIGHEST = 1 << 24
_LOCK = Lock()
"""The simulated GPU patches PyTorch for the whole process: one estimate at a time."""


def estimated_report(
    request: StepRequest,
    *,
    device: str,
    gpu: Gpu | None = None,
    settings: str = "",
    largest: bool = False,
) -> StepReport:
    """Return the estimate of a step, and of its largest batch on ``gpu`` if wanted."""
    if request.compile is not None:
        raise ArgumentError(
            "compile needs the dry run of a GPU, e.g. --gpu l4: an estimate knows no compiled code;"
            " harness profile --compile runs a step on the CPU"
        )

    @cache
    def at(batch: int) -> StepReport:
        own = requested_step(replace(request, batch=batch))
        with _LOCK:
            report = estimate_step(own, device=device, gpu=gpu, allocator_settings=settings)
        return replace(report, target=request.target, torch=torch_version())

    report, unit = at(request.batch), request.accumulate
    if report.fit is None or not largest:
        return report

    def fit_at(count: int) -> GpuFit:
        fit = at(count * unit).fit
        assert fit is not None, "a GPU of known size was named"
        return fit

    count, fit = request.batch // unit, report.fit
    room = fit.total_bytes - fit.outside_bytes[1]
    points = [(n, fit_at(n).reserved_peak_bytes[1]) for n in (count, 2 * count)]
    most = largest_value(
        lambda count: fit_at(count).verdict == FITS,
        low=count if fit.verdict == FITS else 1,
        high=HIGHEST // unit,
        guess=line_meets(room, *points),
    )
    searched = replace(fit, is_searched=True, largest_batch=None if most is None else most * unit)
    return replace(report, fit=searched)


def estimated_plan(
    request: StepRequest, gpu: Gpu, *, settings: str, progress: Progress = str
) -> Plan:
    """Return the plan of a step, each change of it estimated."""
    own = requested_step(request)
    with torch.device("meta"):
        model = own.build()

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        try:
            with _LOCK:
                fit = estimate_step(step, device="cuda", gpu=gpu, allocator_settings=settings).fit
        except StepError as error:
            if micro_batches == 1:
                raise
            return str(error)
        assert fit is not None, "the GPU's memory is known"
        return fit

    subject = subject_of(own, model, gpu=gpu.name, capability=gpu.capability)
    return PlanSearch(subject, fit_of, progress).plan(settings)

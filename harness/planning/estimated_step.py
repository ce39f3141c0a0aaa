"""Estimates the memory of a step on meta tensors, if the step cannot be run."""

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

from msgspec.structs import replace

from harness.dry_runs.toolchain import torch_version
from harness.planning.predict_questions import CheckGpus, Estimable, FitsOnGpus, PredictStep
from harness.prediction.estimate.estimate_step import estimate_step
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.largest_batch import largest_batch
from harness.schema.argument_checks import ArgumentError
from harness.schema.errors import StepError
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import StepReport
from harness.training.own_step import OwnStep
from harness.training.requested_step import requested_step

Progress = Callable[[str], object]

_LOCK = Lock()
"""Lock that allows one estimate at a time, because the simulated GPU patches PyTorch."""


def step(question: PredictStep, progress: Progress) -> StepReport:
    """Estimate the memory of a step and, if requested, the largest batch that fits on the GPU."""
    del progress
    gpu = question.gpus[0] if question.fits else None
    return _report(question, gpu, find_largest=question.largest)


def on_gpus(question: CheckGpus, progress: Progress) -> FitsOnGpus:
    """Estimate whether the step fits on each GPU."""
    del progress
    reports = [_report(question, gpu, find_largest=True) for gpu in question.gpus]
    fits = tuple(report.fit for report in reports if report.fit is not None)
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return FitsOnGpus(fits=fits, method="estimate", notes=tuple(notes))


def _report(
    question: CheckGpus | PredictStep, gpu: Gpu | None, *, find_largest: bool
) -> StepReport:
    """Estimate the memory of a step and, if requested, the largest batch that fits on ``gpu``."""
    request = question.request
    if request.compile is not None:
        raise ArgumentError(
            "compile needs the dry run of a GPU, e.g. --gpu l4: an estimate knows no compiled code;"
            " harness measure --compile runs a step on the CPU"
        )

    @cache
    def at(batch: int) -> StepReport:
        own = requested_step(replace(request, batch=batch))
        report = estimated(own, question, gpu, question.settings)
        return replace(report, target=request.subject, torch=torch_version())

    report = at(request.batch)
    if report.fit is None or not find_largest:
        return report
    fit = report.fit
    room = fit.total_bytes - fit.outside_bytes[1]
    largest = largest_batch(_Estimates(at), room, batch=request.batch, unit=request.accumulate)
    fit = replace(fit, is_searched=largest.is_found, largest_batch=largest.batch)
    notes = (*report.notes, *[largest.note(fit.gpu)] * (not largest.is_found))
    return replace(report, fit=fit, notes=notes)


class _Estimates:
    """Estimates the peak of a step at any batch, for a search that finds the largest batch."""

    def __init__(self, at: Callable[[int], StepReport]) -> None:
        self._at = at

    def peak(self, batch: int) -> int | None:
        try:
            return self._fit(batch).allocated_peak_bytes[1]
        except StepError:
            return None  # batch normalization refuses one value per channel

    def completes(self, batch: int, room_bytes: int) -> bool:
        del room_bytes  # the verdict is about the GPU
        return self._fit(batch).verdict == "fits"

    def _fit(self, batch: int) -> GpuFit:
        fit = self._at(batch).fit
        assert fit is not None, "a GPU of known size was named"
        return fit


def estimated(own: OwnStep, question: Estimable[Any], gpu: Gpu | None, settings: str) -> StepReport:
    """Estimate the memory of one step, after estimates in other threads have ended."""
    with _LOCK:
        return estimate_step(own, device=question.device, gpu=gpu, allocator_settings=settings)

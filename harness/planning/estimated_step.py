"""Answers a question about a step by the estimate on meta tensors, where nothing can be run."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock

import torch
from msgspec import convert
from msgspec.structs import replace

from harness.dry_runs.toolchain import torch_version
from harness.planning.changed_step import changed_step, subject_of
from harness.planning.plan_result import Plan
from harness.planning.plan_search import PlanSearch, Progress
from harness.planning.step_changes import StepChange
from harness.planning.step_question import (
    Answer,
    CheckGpus,
    Estimable,
    FitsOnGpus,
    PlanStep,
    Question,
    TraceStep,
)
from harness.prediction.estimate.estimate_step import estimate_step
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.largest_batch import largest_batch
from harness.schema.argument_checks import ArgumentError
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import StepReport
from harness.training.own_step import OwnStep
from harness.training.requested_step import requested_step

_LOCK = Lock()
"""The simulated GPU patches PyTorch for the whole process: one estimate at a time."""


def estimate(question: Question[Answer], why: Sequence[str], progress: Progress) -> Answer:
    """Return the estimate of what a worker would answer; its first notes say ``why`` it is one."""
    return convert(_estimate(question, why, progress), question.answer_type())


def _estimate(
    question: Question[Answer], why: Sequence[str], progress: Progress
) -> StepReport | FitsOnGpus | Plan:
    match question:
        case PlanStep():
            plan = _plan(question, progress)
            return dataclasses.replace(plan, notes=(*why, *plan.notes))
        case TraceStep():
            gpu = question.gpus[0] if question.fits else None
            report = _report(question, gpu, find_largest=question.largest)
            return replace(report, notes=(*why, *report.notes))
        case CheckGpus():
            reports = [_report(question, gpu, find_largest=True) for gpu in question.gpus]
            fits = tuple(report.fit for report in reports if report.fit is not None)
            notes = dict.fromkeys(note for report in reports for note in report.notes)
            return FitsOnGpus(fits=fits, method="estimate", notes=(*why, *notes))
        case _:
            raise UnsupportedError("a whole run cannot be estimated")


def _report(question: CheckGpus | TraceStep, gpu: Gpu | None, *, find_largest: bool) -> StepReport:
    """Return the estimate of a step, and of its largest batch on ``gpu`` if wanted."""
    request = question.request
    if request.compile is not None:
        raise ArgumentError(
            "compile needs the dry run of a GPU, e.g. --gpu l4: an estimate knows no compiled code;"
            " harness measure --compile runs a step on the CPU"
        )

    @cache
    def at(batch: int) -> StepReport:
        own = requested_step(replace(request, batch=batch))
        report = _estimated(own, question, gpu, question.settings)
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
    """The estimates of a step at any batch, on one GPU."""

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


def _plan(question: PlanStep, progress: Progress) -> Plan:
    """Return the plan of a step, each change of it estimated."""
    own, gpu = requested_step(question.request), question.gpus[0]
    with torch.device("meta"):
        model = own.build()

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        try:
            fit = _estimated(step, question, gpu, settings).fit
        except StepError as error:
            if micro_batches == 1:
                raise
            return str(error)
        assert fit is not None, "the GPU's memory is known"
        return fit

    return PlanSearch(subject_of(own, model, gpu), fit_of, progress).plan(question.settings)


def _estimated(step: OwnStep, question: Estimable, gpu: Gpu | None, settings: str) -> StepReport:
    with _LOCK:
        return estimate_step(step, device=question.device, gpu=gpu, allocator_settings=settings)

"""Checks whether a step fits on pretended GPUs, and traces the step.

A forked process traces the step. For each kind of GPU, another forked process finds the largest
batch. The forked processes run in parallel, about one for each CPU core.
"""

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from harness.dry_runs.autotuning import watch_unmeasured
from harness.dry_runs.left_out_values import leave_values_out
from harness.dry_runs.library_notes import ask_cudnn_once
from harness.planning.answer_pretended import by_dry_run, trace_in_fork
from harness.planning.answer_trace import step_of, tell
from harness.planning.predict_questions import (
    CheckGpus,
    Estimable,
    FitsOnGpus,
    PredictStep,
    TraceRun,
)
from harness.planning.step_answer import answering
from harness.planning.step_bench import step_bench
from harness.planning.step_search import SEARCH_SECONDS, StepSearch
from harness.planning.step_values import has_own_inputs, use_gpu
from harness.prediction.gpu.catalogue import Gpu
from harness.processes.forked_call import ForkedCall
from harness.processes.limits.own_pages import gather
from harness.processes.malloc_policy import allow_huge_pages
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase
from harness.training.own_step import OwnStep

GATHERED_KINDS = 6
"""Smallest number of GPU kinds for which memory is moved to huge pages before forks."""
ALL_SECONDS = 400.0
"""Time limit of all searches together, in seconds, below the worker's limit of 600 s."""


@answering(PredictStep, leave_values_out)
def fitted(question: PredictStep, announce: Phase) -> StepReport:
    """Trace the step; if requested, also check whether the step fits on the GPU."""
    own, (gpu, *_) = step_of(question), question.gpus
    searched = ", its largest batch is searched" if question.largest else ""
    tell(announce, f"it is traced on {gpu.name}{searched}")
    tracing = ForkedCall(partial(trace_in_fork, question, own, announce))
    known = [gpu] if question.fits and gpu.total_bytes else []
    fits = _fits_while(tracing, question, own, known, find_largest=question.largest)
    return with_fit(question, tracing.result(), fits)


@answering(CheckGpus, leave_values_out)
def fits_on_gpus(question: CheckGpus, announce: Phase) -> FitsOnGpus:
    """Check whether the step fits on each GPU; a compiled step is also traced."""
    own = step_of(question)
    doing = "its largest batch is searched" if question.largest else "the step is tried"
    tell(announce, f"{doing} on {len(question.gpus)} GPUs")
    report, tracing = StepReport(method="dry run"), None
    if own.compile is not None:
        tracing = ForkedCall(partial(trace_in_fork, question, own, announce))
    known = [gpu for gpu in question.gpus if gpu.total_bytes]
    fits = _fits_while(tracing, question, own, known, find_largest=question.largest)
    if tracing is not None:
        report = tracing.result()
    return FitsOnGpus(fits=fits.fits, notes=by_dry_run(question, report, fits.notes).notes)


def with_fit(question: PredictStep | TraceRun, report: StepReport, fits: FitsOnGpus) -> StepReport:
    """Return the report, with the result for the first GPU and with the notes of the dry run."""
    fit = fits.fits[0] if fits.fits else None
    return replace(by_dry_run(question, report, fits.notes), fit=fit)


def _fits_while(
    tracing: ForkedCall[StepReport] | None,
    question: CheckGpus | PredictStep,
    own: OwnStep,
    known: Sequence[Gpu],
    *,
    find_largest: bool,
) -> FitsOnGpus:
    """Check whether the step fits on each GPU; an error of the trace replaces the check's error."""
    try:
        also_tracing = tracing is not None
        return _fits(question, own, known, find_largest=find_largest, also_tracing=also_tracing)
    except BaseException:
        if tracing is not None:
            tracing.result()
        raise


def _fits(
    question: CheckGpus | PredictStep,
    own: OwnStep,
    gpus: Sequence[Gpu],
    *,
    find_largest: bool,
    also_tracing: bool,
) -> FitsOnGpus:
    """Check whether the step fits on each GPU; GPUs that differ only in memory share a process."""
    kinds: dict[Gpu, list[Gpu]] = {}
    for gpu in gpus:
        kinds.setdefault(dataclasses.replace(gpu, name="", total_bytes=None), []).append(gpu)
    running: list[ForkedCall[FitsOnGpus]] = []
    answers: list[FitsOnGpus] = []
    at_once = max(1, (os.cpu_count() or 1) - also_tracing)
    for alike in kinds.values():
        if find_largest and running and not answers:  # it says whether the others ask cuDNN
            answers.append(running.pop().result())
            ask_cudnn_once(answers[0].notes)
            if len(kinds) >= GATHERED_KINDS:
                allow_huge_pages(True)
                gather()
                allow_huge_pages(False)
        if len(running) == at_once:
            answers.append(running.pop(0).result())
        seconds = min(SEARCH_SECONDS, ALL_SECONDS * at_once / len(kinds))
        call = partial(
            fits_of_kind, question, own, alike, find_largest=find_largest, seconds=seconds
        )
        running.append(ForkedCall(call))
    answers += [call.result() for call in running]
    return FitsOnGpus(
        fits=tuple(fit for answer in answers for fit in answer.fits),
        notes=tuple(dict.fromkeys(note for answer in answers for note in answer.notes)),
    )


def fits_of_kind(
    question: Estimable[Any],
    own: OwnStep,
    gpus: Sequence[Gpu],
    *,
    find_largest: bool = False,
    seconds: float = SEARCH_SECONDS,
) -> FitsOnGpus:
    """Check whether the step fits on GPUs that differ only in memory; call this in a fork."""
    values = use_gpu(question, gpus[0], computes=has_own_inputs(own))
    compilations = watch_unmeasured(lambda _: None)  # Inductor chooses as for the trace
    bench = step_bench(own, values, compilations, is_traced=isinstance(question, PredictStep))
    search = StepSearch(
        bench, own.batch, own.accumulate, question.settings, seconds, least=own.least_batch
    )
    fits = search.fits(gpus, find_largest=find_largest)
    return FitsOnGpus(fits=tuple(fits), notes=(*search.need(own.batch).notes, *search.notes))

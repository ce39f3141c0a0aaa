"""Answers a question about a step, in a worker: on this CPU or GPU, or on pretended GPUs.

On pretended GPUs every part runs in a fork that has not used CUDA, as many at once as there are
processors: one records the traced step, one for each kind of GPU tries it at other batches.
"""

import dataclasses
import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from harness.dry_run.compiled import watch
from harness.dry_run.left_out_values import LeftOutValues
from harness.dry_run.library_notes import library_notes, open_cudnn, refusing_old_cudnn
from harness.measurement.environment import pretended_device
from harness.measurement.process.forked_call import ForkedCall, in_fork
from harness.measurement.process.outcome import ForkFailedError
from harness.measurement.step_trace import trace_run, trace_step
from harness.planning.changed_step import changed_step, subject_of
from harness.planning.plan_result import Plan
from harness.planning.plan_search import PlanSearch
from harness.planning.step_bench import (
    loop_bench,
    refuse_what_is_not_pretended,
    step_bench,
    use_gpu,
)
from harness.planning.step_changes import StepChange, Subject
from harness.planning.step_needs import Need, TooLargeError
from harness.planning.step_question import SEED, FitsOnGpus, StepQuestion
from harness.planning.step_search import StepSearch
from harness.prediction.gpu.catalogue import Gpu
from harness.schema.errors import UnsupportedError
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase, no_phase
from harness.training.own_step import OwnStep
from harness.training.requested_step import find_modules, load_target, requested_step

KERNELS = "PyTorch's own kernels decided what is allocated"
NOT_SEARCHED = "the largest batch is not searched: each batch would be compiled anew; give --batch"
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
GRAPHS = (
    "a CUDA graph that is replayed allocates nothing, so the trace of a step cannot show what its"
    " pool holds; harness dry-run of a script reports the pool"
)
INSIDE = (
    "what compiled code allocates is in the row of the network: of the layers inside it only"
    " parameters, gradients and optimizer state are known"
)
NOT_ASKED = (
    "your own code compiles: a compiled module is a row of its own, but a compiled function that"
    " calls modules may have more breaks here than without the trace"
)


def answer(request: bytes, announce: Phase) -> dict[str, Any]:
    """Return the answer to an encoded ``StepQuestion`` as plain data."""
    question = msgspec.json.decode(request, type=StepQuestion)
    torch.set_num_threads(question.request.threads)
    torch.manual_seed(SEED)
    if question.device == "cuda" and pretended_device():
        LeftOutValues().begin()
    if question.counts:
        with announce("forward"):
            return _counted(question, announce)
    return dict(msgspec.to_builtins(_answer(question, announce)))


def _answer(question: StepQuestion, announce: Phase) -> StepReport | FitsOnGpus | Plan:
    if question.run:
        return _of_run(question)
    own = requested_step(question.request)
    if question.device == "cuda" and own.compile in CUDA_GRAPHS:
        raise UnsupportedError(GRAPHS)
    if question.plan:
        return _plan(question, own, announce)
    if question.device == "cpu" or not pretended_device():
        return _traced(own.with_values(), question.device, announce)
    return _on_pretended_gpus(question, own, announce)


def _counted(question: StepQuestion, announce: Phase) -> dict[str, int]:
    """Return what the target, a function, counts."""
    find_modules(question.request)

    def counted() -> dict[str, int]:
        values = use_gpu(question, question.gpus[0]) if pretends else None
        if values is not None:
            watch(partial(_tell, announce), pretended=True)
        target = load_target(str(question.request.target))
        with refusing_old_cudnn() if pretends else nullcontext():
            counts = target(**question.request.named_arguments())
        numbers = msgspec.convert(counts, dict[str, int])
        if values is not None:
            values.refuse_unknown_sizes()
        return numbers

    pretends = question.device == "cuda" and pretended_device() is not None
    return in_fork(counted) if pretends else counted()


def _plan(question: StepQuestion, own: OwnStep, announce: Phase) -> Plan:
    """Return what to change so that the step fits on the first GPU."""
    gpu = question.gpus[0]
    notes: list[str] = []

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        changed = replace(question, settings=settings)
        try:
            answer = in_fork(partial(_fits_of_kind, changed, step, (gpu,)))
            notes.extend(answer.notes)
            return answer.fits[0]
        except ForkFailedError as error:
            if micro_batches == 1 or error.failure.type != "ValueError":
                raise
            return error.failure.message  # batch normalization refuses one value per channel

    def subject() -> Subject:
        return subject_of(own, own.network("cpu"), gpu)

    plan = PlanSearch(in_fork(subject), fit_of, partial(_tell, announce)).plan(question.settings)
    return dataclasses.replace(plan, notes=(*dict.fromkeys(notes), *plan.notes))


def _tell(announce: Phase, words: str) -> None:
    with announce(words):
        pass


def _of_run(question: StepQuestion) -> StepReport:
    """Return the report of the user's training loop, and whether it fits if that is a question."""
    find_modules(question.request)
    gpu = question.gpus[0]
    sent = pickle.loads(question.request.sent)
    call = sent["run"] if sent["shapes"] is None else partial(sent["run"], sent["shapes"])

    report = in_fork(lambda: _traced_on_pretended_gpu(question, lambda: trace_run(call)))
    if not question.fits or not gpu.total_bytes:
        return _by_dry_run(question, report, FitsOnGpus(fits=()))
    assert report.cuda is not None, "the run used the GPU"
    peaks = report.cuda.allocated_peak_bytes or 0, report.cuda.reserved_peak_bytes or 0

    def fits() -> FitsOnGpus:
        bench = loop_bench(call, use_gpu(question, gpu))
        search = StepSearch(bench, batch=1, settings=question.settings)
        search.needs[1] = Need(*peaks, *peaks, report.notes)
        return FitsOnGpus(fits=tuple(search.fits([gpu])))

    return _by_dry_run(question, report, in_fork(fits))


def _on_pretended_gpus(
    question: StepQuestion, own: OwnStep, announce: Phase
) -> StepReport | FitsOnGpus:
    tracing: ForkedCall[StepReport] | None = None
    if own.compile is not None or not question.each:  # the trace sees if anything was compiled
        trace = partial(_traced, own, "cuda", announce)
        tracing = ForkedCall(partial(_traced_on_pretended_gpu, question, trace))
    known = [gpu for gpu in question.gpus if gpu.total_bytes] if question.fits else []
    try:
        fits = _fits(question, own, known, also_tracing=tracing is not None)
    except BaseException:
        if tracing is not None:
            tracing.result()  # its own error comes first: it has the user's line
        raise
    report = StepReport(method="dry run") if tracing is None else tracing.result()
    report = _by_dry_run(question, report, fits)
    if question.each:
        return FitsOnGpus(fits=fits.fits, method=report.method, notes=report.notes)
    return report


def _traced_on_pretended_gpu(question: StepQuestion, trace: Callable[[], StepReport]) -> StepReport:
    values = use_gpu(question, question.gpus[0])
    try:
        with refusing_old_cudnn():
            report = trace()
    except torch.OutOfMemoryError as error:
        refuse_what_is_not_pretended()
        raise TooLargeError from error
    values.refuse_unknown_sizes()
    return replace(report, notes=(*library_notes(), *values.notes(), *report.notes))


def _by_dry_run(question: StepQuestion, report: StepReport, fits: FitsOnGpus) -> StepReport:
    """Return the report with the first verdict and the notes of a dry run."""
    unsearched = [NOT_SEARCHED] * (question.largest and question.request.compile is not None)
    return replace(
        report,
        method="dry run",
        target=question.request.target,
        fit=fits.fits[0] if fits.fits else None,
        notes=(
            KERNELS,
            *dict.fromkeys((*fits.notes, *report.notes)),
            *question.left_out,
            *unsearched,
        ),
    )


def _traced(own: OwnStep, device: str, announce: Phase) -> StepReport:
    """Return the traced step and what was compiled for it; refuse one of which nothing was."""
    compilations = watch(partial(_tell, announce), pretended=pretended_device() is not None)
    pretends = device == "cuda" and pretended_device() is not None
    report = trace_step(own, device, no_phase if pretends else announce)
    compiled = compilations.compiled()
    snapshot: Any = torch.cuda.memory_snapshot
    if device == "cuda" and any(any(segment["segment_pool_id"]) for segment in snapshot()):
        raise UnsupportedError(GRAPHS)  # a CUDA graph, or the program, has a private pool
    if own.compile is not None and (compiled is None or not compiled.graphs):
        reasons = () if compiled is None else (*compiled.fallbacks, *compiled.break_places)
        why = ": " + "; ".join(reasons) if reasons else ""
        raise UnsupportedError(f"torch.compile compiled nothing{why}")
    if compiled is None:
        return report
    notes = (*compiled.notes(), INSIDE if own.compile else NOT_ASKED)
    return replace(report, compiled=compiled, notes=notes)


def _fits(
    question: StepQuestion, own: OwnStep, gpus: Sequence[Gpu], *, also_tracing: bool
) -> FitsOnGpus:
    """Return the verdict on each GPU; those that differ in memory alone share a bench."""
    kinds: dict[Gpu, list[Gpu]] = {}
    for gpu in gpus:
        kinds.setdefault(dataclasses.replace(gpu, name="", total_bytes=None), []).append(gpu)
    if len(kinds) > 1:
        open_cudnn()
    running: list[ForkedCall[FitsOnGpus]] = []
    answers: list[FitsOnGpus] = []
    at_once = max(1, (os.cpu_count() or 1) - also_tracing)
    for alike in kinds.values():
        if len(running) == at_once:
            answers.append(running.pop(0).result())
        running.append(ForkedCall(partial(_fits_of_kind, question, own, alike)))
    answers += [call.result() for call in running]
    return FitsOnGpus(
        fits=tuple(fit for answer in answers for fit in answer.fits),
        notes=tuple(dict.fromkeys(note for answer in answers for note in answer.notes)),
    )


def _fits_of_kind(question: StepQuestion, own: OwnStep, gpus: Sequence[Gpu]) -> FitsOnGpus:
    values = use_gpu(question, gpus[0])
    watch(lambda _: None, pretended=True)  # Inductor chooses as it does for the trace
    search = StepSearch(step_bench(own, values), own.batch, own.accumulate, question.settings)
    fits = search.fits(gpus, find_largest=question.largest and own.compile is None)
    return FitsOnGpus(fits=tuple(fits), notes=(*search.need(own.batch).notes, *search.notes))

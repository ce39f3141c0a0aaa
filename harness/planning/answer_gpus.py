"""A step traced on this machine, or on a pretended GPU, with the verdicts on GPUs.

On pretended GPUs every part runs in a fork that has not used CUDA, as many at once as there are
processors: one records the traced step, one for each kind of GPU tries it at other batches.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from msgspec.structs import replace

from harness.dry_runs.compiled import watch
from harness.dry_runs.dry_run_report import Decision
from harness.dry_runs.left_out_values import most_left_out
from harness.dry_runs.library_notes import ask_cudnn_once, library_notes, refusing_old_cudnn
from harness.dry_runs.unknown_values import listed
from harness.measurement.environment import pretended_device
from harness.measurement.limits.own_pages import gather
from harness.measurement.malloc_policy import allow_huge_pages
from harness.measurement.process.forked_call import ForkedCall
from harness.measurement.step_trace import trace_step
from harness.planning.step_bench import refuse_what_is_not_pretended, step_bench, use_gpu
from harness.planning.step_needs import TooLargeError
from harness.planning.step_question import CheckGpus, FitsOnGpus, PlanStep, TraceRun, TraceStep
from harness.planning.step_search import SEARCH_SECONDS, StepSearch
from harness.planning.tried_values import TriedStep, with_values_tried
from harness.prediction.gpu.catalogue import Gpu
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase, no_phase
from harness.training.own_step import OwnStep
from harness.training.requested_step import requested_step

GATHERED_KINDS = 6
"""With this many kinds of GPU there are some 60 forks; each copies fewer page tables then."""
ALL_SECONDS = 400.0
"""Searches on all kinds of GPU end in so long; the question's own deadline is 600 s."""
KERNELS = "PyTorch's own kernels decided what is allocated"
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


def traced(question: TraceStep, announce: Phase) -> StepReport:
    """Return the step as it runs on this CPU or GPU."""
    own = step_of(question)
    return _traced(own.with_values(), question.device, announce)


def on_pretended_gpu(question: TraceStep, announce: Phase) -> StepReport:
    """Return the traced step, and the verdict on its GPU if that is a question."""
    own, (gpu, *_) = step_of(question), question.gpus
    searched = ", its largest batch is searched" if question.largest else ""
    tell(announce, f"it is traced on {gpu.name}{searched}")
    tracing = ForkedCall(partial(traced_in_fork, question, partial(_traced, own, "cuda", announce)))
    known = [gpu] if question.fits and gpu.total_bytes else []
    fits = _fits_while(tracing, question, own, known, find_largest=question.largest)
    return by_dry_run(question, tracing.result(), fits)


def fits_on_gpus(question: CheckGpus, announce: Phase) -> FitsOnGpus:
    """Return the verdict on each GPU; a step that is compiled is traced too, to see if it was."""
    own = step_of(question)
    tell(announce, f"its largest batch is searched on {len(question.gpus)} GPUs")
    report, tracing = StepReport(method="dry run"), None
    if own.compile is not None:
        trace = partial(_traced, own, "cuda", announce)
        tracing = ForkedCall(partial(traced_in_fork, question, trace))
    known = [gpu for gpu in question.gpus if gpu.total_bytes]
    fits = _fits_while(tracing, question, own, known, find_largest=True)
    if tracing is not None:
        report = tracing.result()
    notes = by_dry_run(question, report, fits).notes
    return FitsOnGpus(fits=fits.fits, notes=notes)


def _fits_while(
    tracing: ForkedCall[StepReport] | None,
    question: CheckGpus | TraceStep,
    own: OwnStep,
    known: Sequence[Gpu],
    *,
    find_largest: bool,
) -> FitsOnGpus:
    """Return the verdicts; an error of the trace, which has the user's line, comes first."""
    try:
        also_tracing = tracing is not None
        return _fits(question, own, known, find_largest=find_largest, also_tracing=also_tracing)
    except BaseException:
        if tracing is not None:
            tracing.result()
        raise


def step_of(question: CheckGpus | PlanStep | TraceStep) -> OwnStep:
    """Return the step of a question; refuse CUDA graphs, whose memory no trace shows."""
    own = requested_step(question.request)
    if question.device == "cuda" and own.compile in CUDA_GRAPHS:
        raise UnsupportedError(GRAPHS)
    return own


def traced_in_fork(
    question: CheckGpus | TraceRun | TraceStep, trace: Callable[[], StepReport]
) -> StepReport:
    """Return what ``trace`` returns on the first GPU, in forks that have not used CUDA."""

    def traced(trial: int, decided: Mapping[str, bool]) -> TriedStep | Decision:
        values = use_gpu(question, question.gpus[0], trial, decided)
        try:
            with refusing_old_cudnn():
                report = trace()
        except torch.OutOfMemoryError as error:
            refuse_what_is_not_pretended()
            values.refuse_unknown_sizes()
            raise TooLargeError from error
        except Exception as error:
            values.refuse_unknown_sizes()  # zeros in the place of values may have led there
            if (failed := values.failed_check(error.__cause__ or error)) is not None:
                return failed
            if (lines := values.deciding_lines()) and trial == 0:
                raise UnsupportedError(
                    f"it depends on values that nobody knows, at {listed(lines)}: with zeros in"
                    f" their place the step fails: {error}"
                ) from error
            raise
        values.refuse_unknown_sizes()
        notes = (*library_notes(), *values.notes(), *report.notes)
        host = None if report.host is None else report.host.with_left_out(most_left_out())
        return TriedStep(replace(report, host=host, notes=notes), values.deciding_lines())

    return with_values_tried(traced)


def by_dry_run(
    question: CheckGpus | TraceRun | TraceStep,
    report: StepReport,
    fits: FitsOnGpus,
) -> StepReport:
    """Return the report with the first verdict and the notes of a dry run."""
    notes = dict.fromkeys((*fits.notes, *report.notes))
    return replace(
        report,
        method="dry run",
        target=question.request.subject,
        fit=fits.fits[0] if fits.fits else None,
        notes=(KERNELS, *notes, *question.left_out),
    )


def _traced(own: OwnStep, device: str, announce: Phase) -> StepReport:
    """Return the traced step and what was compiled for it; refuse one of which nothing was."""
    compilations = watch(partial(tell, announce), pretended=pretended_device() is not None)
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
    question: CheckGpus | TraceStep,
    own: OwnStep,
    gpus: Sequence[Gpu],
    *,
    find_largest: bool,
    also_tracing: bool,
) -> FitsOnGpus:
    """Return the verdict on each GPU; those that differ in memory alone share a bench."""
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
    question: CheckGpus | PlanStep | TraceStep,
    own: OwnStep,
    gpus: Sequence[Gpu],
    *,
    find_largest: bool = False,
    seconds: float = SEARCH_SECONDS,
) -> FitsOnGpus:
    """Return the verdicts on GPUs that differ in memory alone, in a fork."""
    values = use_gpu(question, gpus[0])
    compilations = watch(lambda _: None, pretended=True)  # Inductor chooses as for the trace
    bench = step_bench(own, values, compilations, is_traced=isinstance(question, TraceStep))
    search = StepSearch(
        bench, own.batch, own.accumulate, question.settings, seconds, least=own.least_batch
    )
    fits = search.fits(gpus, find_largest=find_largest)
    return FitsOnGpus(fits=tuple(fits), notes=(*search.need(own.batch).notes, *search.notes))


def tell(announce: Phase, words: str) -> None:
    """Say what is tried or compiled now."""
    with announce(words):
        pass

"""A step traced on this CPU or GPU or on a pretended one, and a function that counts."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from harness.dry_runs.compiled import watch
from harness.dry_runs.left_out_values import most_left_out
from harness.dry_runs.library_notes import library_notes, refusing_old_cudnn
from harness.dry_runs.value_places import Decision, listed
from harness.measurement.environment import pretended_device
from harness.measurement.step_trace import trace_step
from harness.planning.step_answer import answering
from harness.planning.step_needs import TooLargeError
from harness.planning.step_question import Count, Question, TraceStep
from harness.planning.step_values import refuse_what_is_not_pretended, use_gpu
from harness.planning.tried_values import Tried, with_values_tried
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes
from harness.training.module_step import Phase, no_phase
from harness.training.own_step import OwnStep
from harness.training.requested_step import find_modules, load_target, requested_step

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


@answering(TraceStep)
def traced(question: TraceStep, announce: Phase) -> StepReport:
    """Return the step as it runs on this CPU or GPU, or on a pretended one."""
    own = step_of(question)
    if question.device != "cuda" or not pretended_device():
        return traced_step(own.with_values(), question.device, announce)
    tell(announce, f"it is traced on {question.gpus[0].name}")
    trace = partial(traced_step, own, "cuda", announce)
    return by_dry_run(question, traced_in_fork(question, trace))


def step_of(question: Question[Any]) -> OwnStep:
    """Return the step of a question; refuse CUDA graphs, whose memory no trace shows."""
    own = requested_step(question.request)
    if question.device == "cuda" and own.compile in CUDA_GRAPHS:
        raise UnsupportedError(GRAPHS)
    return own


def traced_in_fork(question: Question[Any], trace: Callable[[], StepReport]) -> StepReport:
    """Return what ``trace`` returns on the first GPU, in forks that have not used CUDA."""

    def traced(trial: int, decided: Mapping[str, bool]) -> Tried[StepReport] | Decision:
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
        return Tried(replace(report, host=host, notes=notes), values.deciding_lines())

    report, notes = with_values_tried(traced, _other_peaks)
    return replace(report, notes=(*report.notes, *notes))


def _other_peaks(one: StepReport, other: StepReport) -> str | None:
    """Return how the peaks of two runs differ."""
    if one.cuda == other.cuda:
        return None
    known = [each.cuda for each in (one, other) if each.cuda is not None]
    reserved = sorted(each.reserved_peak_bytes or 0 for each in known)
    return f"{' and '.join(map(format_bytes, reserved))} are reserved"


def by_dry_run(
    question: Question[Any], report: StepReport, notes: Iterable[str] = ()
) -> StepReport:
    """Return the report with the notes of a dry run, after those of its bench."""
    return replace(
        report,
        method="dry run",
        target=question.request.subject,
        notes=(KERNELS, *dict.fromkeys((*notes, *report.notes)), *question.left_out),
    )


def traced_step(own: OwnStep, device: str, announce: Phase) -> StepReport:
    """Return the traced step and what was compiled; refuse a step if nothing was compiled."""
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


@answering(Count)
def counted(question: Count, announce: Phase) -> dict[str, int]:
    """Return what the target, a function, counts."""
    find_modules(question.request)

    def count() -> dict[str, int]:
        target = load_target(str(question.request.target))
        return msgspec.convert(target(**question.request.named_arguments()), dict[str, int])

    def counted(trial: int, decided: Mapping[str, bool]) -> Tried[dict[str, int]]:
        values = use_gpu(question, question.gpus[0], trial, decided)
        watch(partial(tell, announce), pretended=True)
        with refusing_old_cudnn():
            counts = count()
        values.refuse_unknown_sizes()
        return Tried(counts, values.deciding_lines())

    with announce("forward"):
        if question.device != "cuda" or not pretended_device():
            return count()
        return with_values_tried(counted, _other_counts)[0]


def _other_counts(one: dict[str, int], other: dict[str, int]) -> str | None:
    return None if one == other else f"it counts {one} and {other}"


def tell(announce: Phase, words: str) -> None:
    """Say what is tried or compiled now."""
    with announce(words):
        pass

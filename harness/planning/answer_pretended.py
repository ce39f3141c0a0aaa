"""In the worker process, runs a step or a function of the user on a pretended GPU."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from msgspec.structs import replace

from harness.dry_runs.autotuning import watch_unmeasured
from harness.dry_runs.left_out_values import leave_values_out, most_left_out
from harness.dry_runs.library_notes import library_notes, refusing_old_cudnn
from harness.dry_runs.trial_values import Trial
from harness.dry_runs.value_places import listed
from harness.planning.answer_trace import count, step_of, tell, traced_step
from harness.planning.step_answer import answering
from harness.planning.step_needs import TooLargeError
from harness.planning.step_question import Count, Question, TraceStep
from harness.planning.step_values import (
    has_own_inputs,
    refuse_what_is_not_pretended,
    use_gpu,
)
from harness.planning.tried_values import Tried, with_values_tried
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes
from harness.training.module_step import Phase, no_phase
from harness.training.own_step import OwnStep

KERNELS = "PyTorch's own kernels decided what is allocated"


@answering(TraceStep, leave_values_out)
def traced(question: TraceStep, announce: Phase) -> StepReport:
    """Trace the step on the pretended GPU."""
    own = step_of(question)
    tell(announce, f"it is traced on {question.gpus[0].name}")
    return by_dry_run(question, trace_in_fork(question, own, announce))


def trace_in_fork(question: Question[Any], own: OwnStep, announce: Phase) -> StepReport:
    """Trace the step in forked processes that have not used CUDA before."""

    def trace() -> StepReport:
        compilations = watch_unmeasured(partial(tell, announce))
        return traced_step(own, "cuda", no_phase, compilations)

    return tried_in_fork(question, trace, has_values=has_own_inputs(own))


def tried_in_fork(
    question: Question[Any], trace: Callable[[], StepReport], *, has_values: bool
) -> StepReport:
    """Call ``trace`` in forked processes that have not used CUDA before, and return its report.

    If the code reads values from the GPU, and ``has_values`` says that the inputs are the user's
    own, the values are computed.
    """

    def traced(trial: Trial, *, computes: bool = False) -> Tried[StepReport] | Trial:
        values = use_gpu(question, question.gpus[0], trial, computes=computes)
        try:
            with refusing_old_cudnn():
                report = trace()
        except torch.OutOfMemoryError as error:
            refuse_what_is_not_pretended()
            values.refuse_unknown_sizes()
            raise TooLargeError from error
        except Exception as error:
            values.refuse_unknown_sizes()  # made-up values may have led there
            if (again := values.after_error()) is not None:
                return again
            if places := values.made_up():
                raise UnsupportedError(
                    f"it depends on values that nobody knows, at {listed(places)}: with made-up"
                    f" ones the step fails: {error}"
                ) from error
            raise
        values.refuse_unknown_sizes()
        notes = (*library_notes(), *values.notes(), *report.notes)
        host = None if report.host is None else report.host.with_left_out(most_left_out())
        return Tried(replace(report, host=host, notes=notes), values.made_up())

    computed = partial(traced, computes=True) if has_values else None
    report, notes = with_values_tried(traced, _other_peaks, computed)
    return replace(report, notes=(*report.notes, *notes))


def _other_peaks(one: StepReport, other: StepReport) -> str | None:
    """Describe the reserved peaks of two runs; return None if the runs use the same memory."""
    if one.cuda == other.cuda:
        return None
    known = [each.cuda for each in (one, other) if each.cuda is not None]
    reserved = sorted(each.reserved_peak_bytes or 0 for each in known)
    return f"{' and '.join(map(format_bytes, reserved))} are reserved"


def by_dry_run(
    question: Question[Any], report: StepReport, notes: Iterable[str] = ()
) -> StepReport:
    """Mark the report as a dry run, and insert ``notes`` before the report's own notes."""
    return replace(
        report,
        method="dry run",
        target=question.request.subject,
        notes=(KERNELS, *dict.fromkeys((*notes, *report.notes)), *question.left_out),
    )


@answering(Count, leave_values_out)
def counted(question: Count, announce: Phase) -> dict[str, int]:
    """Call the user's function on a pretended GPU, and return the integers that it returns."""

    def tried(trial: Trial) -> Tried[dict[str, int]]:
        values = use_gpu(question, question.gpus[0], trial)
        watch_unmeasured(partial(tell, announce))
        with refusing_old_cudnn():
            counts = count(question)
        values.refuse_unknown_sizes()
        return Tried(counts, values.made_up())

    with announce("forward"):
        return with_values_tried(tried, _other_counts)[0]


def _other_counts(one: dict[str, int], other: dict[str, int]) -> str | None:
    return None if one == other else f"it counts {one} and {other}"

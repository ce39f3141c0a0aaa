"""Runs a step on pretended GPUs in a worker process, or estimates its memory."""

import dataclasses
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any, cast

import msgspec

from harness.dry_runs.toolchain import DryRunUnavailableError
from harness.planning.ask_worker import ended_question, error_of, failed_report
from harness.planning.predict_questions import CheckGpus, Estimable, TraceRun
from harness.planning.pretended_workers import checked
from harness.planning.step_advice import with_advice
from harness.planning.step_question import Answer, Question
from harness.planning.token_labels import with_labels
from harness.prediction.interpreter_state import import_whole
from harness.processes.launch import OnPhase
from harness.processes.messages import Failure
from harness.processes.outcome import classify
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.record import Outcome

DEADLINE_SECONDS = 600.0
COMPILING_SECONDS = 3600.0
"""Time limit for the dry run of a compiled step, in seconds."""


def answered(
    question: Estimable[Answer], method: str = "auto", progress: OnPhase | None = None
) -> Answer:
    """Return the result of a dry run; if a dry run is not possible, return an estimate.

    A step on the CPU is always estimated, in this process. On CUDA, a note says why.
    """
    try:
        with with_advice(question.request):
            answer = _answered(question, method, progress)
    except StepError as error:
        other = with_labels(question.request, error)
        if other is None:
            raise
        try:
            return answered(msgspec.structs.replace(question, request=other), method, progress)
        except StepError:
            raise error from None
    return _with_notes(question.request.notes, answer)


def _answered(question: Estimable[Answer], method: str, progress: OnPhase | None) -> Answer:
    why = []
    if question.device == "cuda" and method == "estimate":
        why = ["estimated on meta tensors, as was asked"]
    elif question.device == "cuda":
        try:
            return ask(question, progress)
        except DryRunUnavailableError as error:
            if method == "dry-run" or question.request.compile is not None:
                raise
            why = [f"estimated, because the dry run is not available: {error}"]
    import_whole(question.estimated_by.partition(":")[0])
    try:
        estimate: Answer = resolve_name(question.estimated_by)(question, progress or str)
    except SystemExit as error:
        failure = Failure(type="SystemExit", message=str(error.code or 0), out_of_memory=False)
        raise error_of(failure) from None
    return _with_notes(why, estimate)


def _with_notes(notes: Sequence[str], answer: Answer) -> Answer:
    noted: Any = answer
    replace = dataclasses.replace if dataclasses.is_dataclass(answer) else msgspec.structs.replace
    return cast("Answer", replace(noted, notes=(*notes, *noted.notes)))


def ask(question: Question[Answer], progress: OnPhase | None = None) -> Answer:
    """Send the question to a worker process that sees pretended GPUs, and return the result."""
    deadline = DEADLINE_SECONDS if question.request.compile is None else COMPILING_SECONDS
    asks_host = isinstance(question, TraceRun)
    ended = ended_question(_on_known_kernels(question), deadline, progress, asks_host=asks_host)
    outcome, evidence = classify(ended)
    kind = question.answer_type()
    if ended.failure is not None and ended.failure.type == "TooLargeError":
        report = failed_report(question.request, "dry run", outcome, evidence)
        if isinstance(report, kind):
            return report
    if ended.failure is not None:
        raise error_of(ended.failure)
    if outcome is not Outcome.OK or ended.result is None:
        message = evidence.get("message", "")
        raise UnsupportedError(f"the step's process ended: {outcome}: {message}")
    return msgspec.convert(ended.result, kind)


def _on_known_kernels(question: Question[Answer]) -> Question[Answer]:
    """Remove GPUs without PyTorch kernels from ``CheckGpus``; raise if another message has any."""
    gpus, left_out = [], []
    for gpu in question.gpus:
        try:
            gpus.append(checked(gpu))
        except UnsupportedError as error:
            if not isinstance(question, CheckGpus):
                raise
            left_out.append(f"left out: {error}")
    return msgspec.structs.replace(question, gpus=tuple(gpus), left_out=tuple(left_out))

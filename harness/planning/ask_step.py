"""Sends a question about a step to a worker, or has it estimated; sending needs no torch."""

import dataclasses
import os
from contextlib import closing
from typing import Any, cast

import msgspec

from harness.dry_runs.for_workers import LAUNCHER
from harness.dry_runs.pretended_gpu import of_any_size, refuse_unfollowed
from harness.dry_runs.toolchain import DryRunUnavailableError, torch_build
from harness.measurement.process.launch import OnPhase
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.measurement.process.messages import Call, Ended, Failure
from harness.measurement.process.outcome import classify
from harness.planning.step_advice import with_advice
from harness.planning.step_question import Answer, CheckGpus, Question, TraceRun
from harness.planning.token_labels import with_labels
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.interpreter_state import import_whole
from harness.schema.errors import HarnessError, StepError, UnsupportedError
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.schema.step_report import Method, StepReport
from harness.schema.step_request import StepRequest

_FUNCTION = "harness.planning.step_answer:answer"
DEADLINE_SECONDS = 600.0
COMPILING_SECONDS = 3600.0
"""Deadline of a step that is compiled."""


def answered(
    question: Question[Answer], method: str = "auto", progress: OnPhase | None = None
) -> Answer:
    """Return the answer by a dry run; else the estimate, whose first note is the reason for it.

    A step on the CPU is estimated without a reason. PyTorch is loaded in this process then.
    """
    try:
        with with_advice(question.request):
            answer: Any = _answered(question, method, progress)
    except StepError as error:
        other = with_labels(question.request, error)
        if other is None:
            raise
        try:
            return answered(msgspec.structs.replace(question, request=other), method, progress)
        except StepError:
            raise error from None
    replace = dataclasses.replace if dataclasses.is_dataclass(answer) else msgspec.structs.replace
    answer = replace(answer, notes=(*question.request.notes, *answer.notes))
    return cast("Answer", answer)


def _answered(question: Question[Answer], method: str, progress: OnPhase | None) -> Answer:
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
    import_whole("harness.planning.estimated_step")
    from harness.planning.estimated_step import estimate

    return estimate(question, why, progress or str)


def ask(question: Question[Answer], progress: OnPhase | None = None) -> Answer:
    """Return the answer of a worker on pretended GPUs."""
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


def ended_question(
    question: Question[Any],
    deadline_seconds: float,
    progress: OnPhase | None = None,
    *,
    asks_host: bool = True,
    launcher: Launcher | None = None,
) -> Ended[dict[str, Any]]:
    """Return how the worker of a question ended; ``launcher`` is for a step without such a GPU."""
    pretends = bool(question.gpus)
    job = Call(
        function=_FUNCTION,
        request=msgspec.json.encode(question),
        device=question.device,
        malloc="system" if pretends else "pinned",
        asks_host=asks_host,
    )
    if pretends:
        refuse_unfollowed(os.environ, question.settings)
        return LAUNCHER.launch(job, deadline_seconds, progress)
    if launcher is not None:
        return launcher.launch(job, deadline_seconds, progress)
    with closing(default_launcher("pinned")) as own:
        return own.launch(job, deadline_seconds, progress)


def failed_report(
    request: StepRequest, method: Method, outcome: Outcome, evidence: FailureEvidence
) -> StepReport:
    """Return the report of a step that did not end well, and why."""
    return StepReport(
        method=method,
        target=request.subject,
        batch=request.batch,
        outcome=outcome,
        evidence=evidence,
        reason=str(evidence.get("message", outcome)),
    )


def error_of(failure: Failure) -> HarnessError:
    """Return the failure as the error that the caller sees."""
    if failure.is_unsupported:
        return UnsupportedError(failure.message)
    if failure.users_mistake:
        return StepError(failure.message)
    place = "" if failure.place is None else f" ({failure.place})"
    if failure.type == "SystemExit":
        return StepError(f"the target ended the process with SystemExit({failure.message}){place}")
    text = " ".join(failure.message.split())[:400]
    said = f"{failure.type}: {text}" if text else failure.type
    return StepError(f"the step fails: {said}{place}")


def _on_known_kernels(question: Question[Answer]) -> Question[Answer]:
    """Return the question without GPUs that PyTorch has no kernels for, if it is on each."""
    gpus, left_out = [], []
    for gpu in question.gpus:
        try:
            gpus.append(checked(gpu))
        except UnsupportedError as error:
            if not isinstance(question, CheckGpus):
                raise
            left_out.append(f"left out: {error}")
    return msgspec.structs.replace(question, gpus=tuple(gpus), left_out=tuple(left_out))


def checked(gpu: Gpu) -> Gpu:
    """Return a GPU that a worker can pretend, with this process's CUBLAS_WORKSPACE_CONFIG."""
    torch = torch_build()
    oldest, capability = min(torch.architectures(), default=0), gpu.capability
    if capability[0] * 10 + capability[1] < oldest:
        has = f"torch {torch.version} has kernels for capability {oldest / 10:.1f} and newer"
        raise UnsupportedError(f"{gpu.name} has capability {capability[0]}.{capability[1]}; {has}")
    of_any_size(gpu)
    return gpu.in_environment()

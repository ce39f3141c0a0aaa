"""Sends a question about a step to a worker process, without importing torch."""

from contextlib import closing
from typing import Any

import msgspec

from harness.planning.step_question import Question
from harness.processes.launch import OnPhase
from harness.processes.launcher import Launcher, default_launcher
from harness.processes.messages import Call, Ended, Failure
from harness.schema.errors import HarnessError, StepError, UnsupportedError
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.schema.step_report import Method, StepReport
from harness.schema.step_request import StepRequest


def ended_question(
    question: Question[Any],
    deadline_seconds: float,
    progress: OnPhase | None = None,
    *,
    asks_host: bool = True,
    launcher: Launcher | None = None,
) -> Ended[dict[str, Any]]:
    """Send a question to a worker process; ``launcher`` is ignored for pretended GPUs."""
    job = Call(
        function=question.answered_by,
        request=msgspec.json.encode(question),
        device=question.device,
        malloc="pinned",
        asks_host=asks_host,
    )
    if question.gpus:
        from harness.planning.pretended_workers import ended_on_gpu

        return ended_on_gpu(job, question.settings, deadline_seconds, progress)
    if launcher is not None:
        return launcher.launch(job, deadline_seconds, progress)
    with closing(default_launcher("pinned")) as own:
        return own.launch(job, deadline_seconds, progress)


def failed_report(
    request: StepRequest, method: Method, outcome: Outcome, evidence: FailureEvidence
) -> StepReport:
    """Return the report of a failed step, with the reason for the failure."""
    return StepReport(
        method=method,
        target=request.subject,
        batch=request.batch,
        outcome=outcome,
        evidence=evidence,
        reason=str(evidence.get("message", outcome)),
    )


def error_of(failure: Failure) -> HarnessError:
    """Convert a worker's failure to the exception that the calling process raises."""
    if failure.is_unsupported:
        return UnsupportedError(failure.message)
    if failure.users_mistake:
        return StepError(failure.message)
    place = "" if failure.place is None else f" ({failure.place})"
    if failure.type == "SystemExit":
        rule = "what builds a network may neither end the process nor parse the command line"
        ended = f"the target ended the process with SystemExit({failure.message}){place}"
        return StepError(f"{ended}; {rule}")
    text = " ".join(failure.message.split())[:400]
    said = f"{failure.type}: {text}" if text else failure.type
    return StepError(f"the step fails: {said}{place}")

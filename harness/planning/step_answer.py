"""Answers a question about a step, in a worker: one handler for each kind of question."""

from typing import Any

import msgspec
import torch

from harness.dry_runs.left_out_values import leave_values_out
from harness.measurement.environment import pretended_device
from harness.planning.answer_gpus import fits_on_gpus, on_pretended_gpu, traced
from harness.planning.answer_plan import planned
from harness.planning.answer_run import counted, traced_run
from harness.planning.plan_result import Plan
from harness.planning.step_question import (
    SEED,
    AnyQuestion,
    CheckGpus,
    Count,
    FitsOnGpus,
    PlanStep,
    TraceRun,
    TraceStep,
)
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase


def answer(request: bytes, announce: Phase) -> dict[str, Any]:
    """Return the answer to an encoded question as plain data."""
    question: AnyQuestion = msgspec.json.decode(request, type=AnyQuestion)
    torch.set_num_threads(question.request.threads)
    torch.manual_seed(SEED)
    if question.device == "cuda" and pretended_device():
        leave_values_out()
    return dict(msgspec.to_builtins(_answer(question, announce)))


def _answer(
    question: AnyQuestion, announce: Phase
) -> StepReport | FitsOnGpus | Plan | dict[str, int]:
    match question:
        case Count():
            return counted(question, announce)
        case TraceRun():
            return traced_run(question)
        case PlanStep():
            return planned(question, announce)
        case CheckGpus():
            return fits_on_gpus(question, announce)
        case TraceStep() if question.device == "cuda" and pretended_device():
            return on_pretended_gpu(question, announce)
        case TraceStep():
            return traced(question, announce)

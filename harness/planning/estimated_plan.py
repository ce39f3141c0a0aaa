"""Finds changes that make a step fit, by estimates of changed steps on meta tensors."""

from dataclasses import replace

import torch

from harness.planning.changed_step import changed_step, subject_of
from harness.planning.estimated_step import estimated
from harness.planning.plan_question import PlanStep
from harness.planning.plan_result import Plan
from harness.planning.plan_search import PlanSearch, Progress
from harness.planning.step_changes import StepChange
from harness.schema.errors import StepError
from harness.schema.memory_fit import GpuFit
from harness.training.requested_step import requested_step


def plan(question: PlanStep, progress: Progress) -> Plan:
    """Return a plan whose memory sizes are estimates."""
    own, gpu = requested_step(question.request), question.gpus[0]
    with torch.device("meta"):
        model = own.build()

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        try:
            fit = estimated(step, question, gpu, settings).fit
        except StepError as error:
            if micro_batches == 1:
                raise
            return str(error)
        assert fit is not None, "the GPU's memory is known"
        return fit

    found = PlanSearch(subject_of(own, model, gpu), fit_of, progress).plan(question.settings)
    return replace(found, method="estimate")

"""Finds changes that make a step fit, by running changed steps in forks on a pretended GPU."""

import dataclasses
from functools import partial

from msgspec.structs import replace

from harness.dry_runs.left_out_values import leave_values_out
from harness.planning.answer_gpus import fits_of_kind
from harness.planning.answer_trace import step_of, tell
from harness.planning.changed_step import changed_step, subject_of
from harness.planning.plan_question import PlanStep
from harness.planning.plan_result import Plan
from harness.planning.plan_search import PlanSearch
from harness.planning.step_answer import answering
from harness.planning.step_changes import StepChange, Subject
from harness.processes.forked_call import in_fork
from harness.processes.outcome import ForkFailedError
from harness.schema.memory_fit import GpuFit
from harness.training.module_step import Phase


@answering(PlanStep, leave_values_out)
def planned(question: PlanStep, announce: Phase) -> Plan:
    """Return a plan with changes that make the step fit on the GPU."""
    own, gpu = step_of(question), question.gpus[0]
    notes: list[str] = []

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        changed = replace(question, settings=settings)
        try:
            answer = in_fork(partial(fits_of_kind, changed, step, (gpu,)))
            notes.extend(answer.notes)
            return answer.fits[0]
        except ForkFailedError as error:
            if change == StepChange() and micro_batches == 1:
                raise
            return error.failure.message  # e.g. batch normalization refuses one value per channel

    def subject() -> Subject:
        return subject_of(own, own.network("cpu"), gpu)

    plan = PlanSearch(in_fork(subject), fit_of, partial(tell, announce)).plan(question.settings)
    return dataclasses.replace(plan, notes=(*dict.fromkeys(notes), *plan.notes))

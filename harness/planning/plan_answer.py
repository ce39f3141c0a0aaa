"""Answers what to change in a step so that it fits, in a worker on a pretended GPU."""

from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from harness.measurement.process.failure import ForkFailedError
from harness.measurement.process.forked_call import in_fork
from harness.planning.changed_step import changed_step, subject_of
from harness.planning.plan_search import PlanSearch, Subject
from harness.planning.step_bench import FreshTries
from harness.planning.step_changes import StepChange
from harness.planning.step_question import GpuOption, StepQuestion
from harness.planning.step_search import fits_of
from harness.schema.memory_fit import GpuFit
from harness.training.own_step import OwnStep
from harness.training.training_step import Phase


def plan_answer(asked: StepQuestion, own: OwnStep, announce: Phase) -> dict[str, Any]:
    """Return the plan for the first GPU of the question, as plain data."""
    gpu = asked.gpus[0]

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        bench = FreshTries(gpu.variables, settings, asked.request.answers)
        try:
            return fits_of(bench, step, (gpu,), settings=settings)[0]
        except ForkFailedError as error:
            if micro_batches == 1 or error.failure.type != "ValueError":
                raise
            return error.failure.message  # batch normalization refuses one value per channel

    def progress(words: str) -> None:
        with announce(words):
            pass

    subject = in_fork(partial(_subject, own, gpu))
    found = PlanSearch(subject, fit_of, progress).plan(asked.settings)
    return dict(msgspec.to_builtins(asdict(found)))


def _subject(own: OwnStep, gpu: GpuOption) -> Subject:
    major, minor = gpu.capability.split(".")
    model = own.network("cpu", with_values=False)
    return subject_of(own, model, gpu=gpu.name, capability=(int(major), int(minor)))

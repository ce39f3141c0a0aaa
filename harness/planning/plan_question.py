"""Defines the message that ``harness.plan`` sends to a worker process."""

from harness.planning.plan_result import Plan
from harness.planning.predict_questions import Estimable


class PlanStep(Estimable[Plan], frozen=True, kw_only=True, tag=True):
    """Makes a worker find changes that make the step fit on the first GPU of the message."""

    answered_by = "harness.planning.answer_plan:planned"
    estimated_by = "harness.planning.estimated_plan:plan"

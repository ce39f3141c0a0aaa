"""The question of ``harness.plan``."""

from harness.planning.plan_result import Plan
from harness.planning.predict_questions import Estimable


class PlanStep(Estimable[Plan], frozen=True, kw_only=True, tag=True):
    """The changes with which the step fits on the first GPU."""

    answered_by = "harness.planning.answer_plan:planned"
    estimated_by = "harness.planning.estimated_plan:plan"

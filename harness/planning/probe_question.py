"""The question whether a step runs within a budget, for the threshold of any network."""

from harness.planning.step_question import Question
from harness.schema.threshold import Enforcement


class ProbeStep(Question[dict[str, int | None]], frozen=True, kw_only=True, tag=True):
    """The bytes that a step needs, if it completes within the budget."""

    answered_by = "harness.planning.answer_probe:probed"

    budget_bytes: int
    kind: Enforcement

"""Messages that the threshold search of a network sends to worker processes."""

from harness.planning.step_question import Question
from harness.schema.threshold import Enforcement

LEAST_EXAMPLES = 2
"""Smallest micro-batch that every network accepts; batch normalization refuses 1 example."""


class ProbeStep(Question[dict[str, int | None]], frozen=True, kw_only=True, tag=True):
    """Makes a worker run the step within the budget, and return the needed bytes."""

    answered_by = "harness.planning.answer_probe:probed"

    budget_bytes: int
    kind: Enforcement


class LargestByLiveBytes(Question[dict[str, int | None]], frozen=True, kw_only=True, tag=True):
    """Makes a worker find the largest batch whose estimated live bytes fit into the budget."""

    answered_by = "harness.planning.answer_probe:largest_by_live_bytes"

    budget_bytes: int

"""Questions about a step and a budget, for the threshold of any network."""

from harness.planning.step_question import Question
from harness.schema.threshold import Enforcement

LEAST_EXAMPLES = 2
"""Smallest micro-batch with which every network runs; batch normalization refuses 1."""


class ProbeStep(Question[dict[str, int | None]], frozen=True, kw_only=True, tag=True):
    """The bytes that a step needs, if it completes within the budget."""

    answered_by = "harness.planning.answer_probe:probed"

    budget_bytes: int
    kind: Enforcement


class LargestByLiveBytes(Question[dict[str, int | None]], frozen=True, kw_only=True, tag=True):
    """The largest batch whose estimated live bytes fit into the budget."""

    answered_by = "harness.planning.answer_probe:largest_by_live_bytes"

    budget_bytes: int

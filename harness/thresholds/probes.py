"""Runs the probes of one search for a threshold; a probe tries a value in a new process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.processes.messages import Ended
from harness.processes.outcome import classify
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.schema.threshold import Probed
from harness.thresholds.search import Answer, Reading

NeededEnd = Ended[Any]
"""Outcome of a probe's process; its ``result`` contains ``needed_bytes``."""


class UndecidedError(Exception):
    """Both probes of a value failed for a reason other than memory."""

    def __init__(self, outcome: Outcome, evidence: FailureEvidence) -> None:
        super().__init__(f"{outcome}: {evidence}")
        self.outcome = outcome
        self.evidence = evidence


@dataclass(kw_only=True)
class Probes:
    """Runs probes within a budget, and stores their results."""

    launch: Callable[[int, int], NeededEnd]
    """Function that probes a value within a budget; the budget is given in bytes."""
    estimate: Callable[[int, int | None], int | None]
    """Function that estimates the largest value that fits, from a probed value and its bytes."""
    budget_bytes: int
    device: str
    seen: list[Probed] = field(default_factory=list)

    def probe(self, value: int) -> Reading:
        """Probe ``value``; probe it once more after a failure for a reason other than memory."""
        for _ in range(2):
            ended = self.launch(value, self.budget_bytes)
            outcome, evidence = classify(ended)
            by_signal = outcome is Outcome.CRASHED and "signal" in evidence
            if by_signal and self.device == "cpu" and self._only_within(value):
                outcome = Outcome.OOM
            needed = None if ended.result is None else ended.result["needed_bytes"]
            self.seen.append(
                Probed(
                    value=value,
                    outcome=outcome,
                    phase=None if outcome is Outcome.OK else ended.phase,
                    type=evidence.get("type") or evidence.get("signal"),
                    needed_bytes=needed,
                    seconds=ended.seconds,
                )
            )
            if outcome in (Outcome.OK, Outcome.OOM):
                fits = outcome is Outcome.OK
                return Reading(fits=fits, estimate=self.estimate(value, needed))
        raise UndecidedError(outcome, evidence | {"value": value})

    def _only_within(self, value: int) -> bool:
        """Return whether a crashed probe of ``value`` succeeds with twice the budget.

        Some libraries crash after a failed allocation. Success shows that memory was the cause.
        """
        return classify(self.launch(value, 2 * self.budget_bytes))[0] is Outcome.OK


def found(search: Callable[[], Answer]) -> Mapping[str, Any]:
    """Run a search; return the result or the reason for the failure as fields of a threshold."""
    try:
        return {"outcome": Outcome.OK, **vars(search())}
    except UndecidedError as error:
        return {"outcome": error.outcome, "evidence": error.evidence}

"""The probes of one search for a threshold, in order, each in a new process."""

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
"""The end of a probe, whose result names its ``needed_bytes``."""


class UndecidedError(Exception):
    """Two probes of a value neither fitted nor ran out of memory."""

    def __init__(self, outcome: Outcome, evidence: FailureEvidence) -> None:
        super().__init__(f"{outcome}: {evidence}")
        self.outcome = outcome
        self.evidence = evidence


@dataclass(kw_only=True)
class Probes:
    """Probes values within a budget, and keeps the results."""

    launch: Callable[[int, int], NeededEnd]
    """Function that runs a value within a number of bytes."""
    estimate: Callable[[int, int | None], int | None]
    """Function that estimates the answer from the bytes that a value needed."""
    budget_bytes: int
    device: str
    seen: list[Probed] = field(default_factory=list)

    def probe(self, value: int) -> Reading:
        """Probe once, and a second time if the first probe ended by an accident."""
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
        """Return whether a crash without a memory error goes away with twice the budget.

        A library that ignores a failed allocation crashes by a signal, without a message.
        """
        return classify(self.launch(value, 2 * self.budget_bytes))[0] is Outcome.OK


def found(search: Callable[[], Answer]) -> Mapping[str, Any]:
    """Return the answer of a search, or why there is none, as fields of a threshold."""
    try:
        return {"outcome": Outcome.OK, **vars(search())}
    except UndecidedError as error:
        return {"outcome": error.outcome, "evidence": error.evidence}

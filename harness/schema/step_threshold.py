"""The threshold of a network's step, as strict JSON."""

from harness.schema.threshold import FoundThreshold


class StepThreshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest batch of a network's step that fits into a budget, predicted and reproduced.

    Attributes:
        target: name of the network; None if it has none.
        step: its step: optimizer, mode and what else was asked.
        notes: what was chosen for the step.
    """

    target: str | None
    step: str
    notes: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The step, with "?" for the batch that was searched."""
        return f"{self.target or 'a network'}, batch ?, {self.step}"
